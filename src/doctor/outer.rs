//! What to start the outer container with: for each thing that is missing, the one setting that brings it, in the words
//! of Docker, Podman and Kubernetes.

use super::check::{Finding, Status};
use crate::host::outer::Outer;
use serde::Serialize;
use std::collections::BTreeSet;

/// A setting of an outer container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Setting {
    /// No seccomp filter.
    Seccomp,
    /// No AppArmor profile.
    AppArmor,
    /// No SELinux confinement.
    SeLinux,
    /// Nothing hides parts of /proc.
    Proc,
    /// Programs may gain privileges, as newuidmap does.
    Privileges,
    /// Root may map itself.
    Setfcap,
    Tun,
    Fuse,
}

impl Setting {
    fn docker(self) -> Option<&'static str> {
        match self {
            Setting::Seccomp => Some("--security-opt seccomp=unconfined"),
            Setting::AppArmor => Some("--security-opt apparmor=unconfined"),
            Setting::SeLinux => Some("--security-opt label=disable"),
            Setting::Proc => Some("--security-opt systempaths=unconfined"),
            Setting::Privileges => Some("--security-opt no-new-privileges=false"),
            Setting::Setfcap => Some("--cap-add SETFCAP"),
            Setting::Tun => Some("--device /dev/net/tun"),
            Setting::Fuse => Some("--device /dev/fuse"),
        }
    }

    fn podman(self) -> Option<&'static str> {
        match self {
            Setting::Proc => Some("--security-opt unmask=ALL"),
            // It is not set unless it is asked for.
            Setting::Privileges => None,
            other => other.docker(),
        }
    }

    /// Fields of a container's securityContext, and what else it takes.
    fn kubernetes(self) -> &'static [&'static str] {
        match self {
            Setting::Seccomp => &["seccompProfile: {type: Unconfined}"],
            Setting::AppArmor => &["appArmorProfile: {type: Unconfined}"],
            Setting::SeLinux => &["seLinuxOptions: {type: spc_t}"],
            Setting::Proc => &["procMount: Unmasked"],
            Setting::Privileges => &["allowPrivilegeEscalation: true"],
            Setting::Setfcap => &["capabilities: {add: [SETFCAP]}"],
            Setting::Tun | Setting::Fuse => &[],
        }
    }

    fn device(self) -> Option<&'static str> {
        match self {
            Setting::Tun => Some("/dev/net/tun"),
            Setting::Fuse => Some("/dev/fuse"),
            _ => None,
        }
    }
}

/// The outer command lines, complete.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Settings {
    pub docker: String,
    pub podman: String,
    /// Fields of a pod, as YAML.
    pub kubernetes: String,
}

/// What would make everything well, and no more. Outside of a container it is what the engines' defaults keep from one.
pub fn settings(findings: &[Finding], around: &Outer) -> Settings {
    if !around.is_one() {
        let (docker, podman) = (BTreeSet::from(DOCKERS), BTreeSet::from(PODMANS));
        return Settings {
            docker: command("docker run --rm -it", &docker, Setting::docker),
            podman: command("podman run --rm -it", &podman, Setting::podman),
            kubernetes: kubernetes(&docker),
        };
    }
    let missing = findings.iter().filter(|finding| finding.status != Status::Ok);
    let mut wanted = BTreeSet::new();
    for finding in missing {
        wanted.extend(settings_for(finding.code.as_deref().unwrap_or_default(), around));
    }
    Settings {
        docker: command("docker run --rm -it", &wanted, Setting::docker),
        podman: command("podman run --rm -it", &wanted, Setting::podman),
        kubernetes: kubernetes(&wanted),
    }
}

/// What Docker's defaults forbid.
const DOCKERS: [Setting; 4] = [Setting::Seccomp, Setting::AppArmor, Setting::Proc, Setting::Tun];
/// What Podman's do; of its filter only the hostname is in need.
const PODMANS: [Setting; 3] = [Setting::Seccomp, Setting::Proc, Setting::Tun];

/// What a code asks of the outer container, as it is.
fn settings_for(code: &str, around: &Outer) -> Vec<Setting> {
    let label = around.label.as_deref().unwrap_or_default();
    // An SELinux label is four words with colons between them.
    let confined = match label {
        "" => None,
        label if label.contains(':') => Some(Setting::SeLinux),
        _ => Some(Setting::AppArmor),
    };
    let filter = around.seccomp.then_some(Setting::Seccomp);
    match code {
        // Podman's filter lets only who has the outer container's CAP_SYS_ADMIN set a hostname.
        "UTS-DENIED" | "NS-SECCOMP" | "MNT-API" | "SECCOMP-LOAD" | "KEYRING" => vec![Setting::Seccomp],
        "NS-APPARMOR" => vec![Setting::AppArmor],
        "NS-DENIED" | "MNT-DENIED" | "PROBE" => filter.into_iter().chain(confined).collect(),
        "PROC-MASKED" => vec![Setting::Proc],
        "ID-NNP" => vec![Setting::Privileges],
        "ID-SETFCAP" => vec![Setting::Setfcap],
        "NET-TUN" => vec![Setting::Tun],
        "FS-FUSE" => vec![Setting::Fuse],
        _ => Vec::new(),
    }
}

fn command(start: &str, wanted: &BTreeSet<Setting>, words: fn(Setting) -> Option<&'static str>) -> String {
    let words = wanted.iter().filter_map(|setting| words(*setting));
    let all: Vec<_> = std::iter::once(start).chain(words).chain(["IMAGE"]).collect();
    all.join(" ")
}

fn kubernetes(wanted: &BTreeSet<Setting>) -> String {
    let fields: Vec<_> = wanted.iter().flat_map(|setting| setting.kubernetes()).collect();
    let devices: Vec<_> = wanted.iter().filter_map(|setting| setting.device()).collect();
    let mut text = String::from("spec:\n");
    if wanted.contains(&Setting::Proc) {
        // The API server takes an unmasked proc only in a user namespace.
        text.push_str("  hostUsers: false\n");
    }
    text.push_str("  containers:\n  - name: NAME\n    image: IMAGE\n");
    if !fields.is_empty() {
        text.push_str("    securityContext:\n");
        fields.iter().for_each(|field| text.push_str(&format!("      {field}\n")));
    }
    for device in devices {
        text.push_str(&format!("    # and {device}, by a device plugin\n"));
    }
    text
}
