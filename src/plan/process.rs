//! The process: what it may, what it is called, what it runs. Everything is a number or a C string when
//! this is through, so that the child has nothing left to work out.

use super::c;
use super::degrade::{Allowance, Degradation, Policy};
use super::idmap::Idmap;
use super::mount_label::no_label;
use super::scheduling::{self, Scheduling};
use super::step::{Fallback, NO_KEY, Op, Step};
use crate::host::{CAP_SYS_RESOURCE, Facts};
use crate::report::Failure;
use crate::sys::caps::Sets;
use crate::sys::process::{Rlimit, Strings};
use crate::sys::stub;
use oci_spec::runtime as oci;
use oci_spec::runtime::{Capabilities, PosixRlimitType};
use std::ffi::CString;
use std::path::Path;
use std::str::FromStr;

/// What init becomes.
#[derive(Debug, Default)]
pub struct Process {
    pub uid: u32,
    pub gid: u32,
    /// The supplementary groups; `None` where setgroups(2) is denied, and none were asked for.
    pub groups: Option<Vec<u32>>,
    pub umask: Option<u32>,
    pub cwd: CString,
    pub capabilities: Sets,
    pub rlimits: Vec<Rlimit>,
    pub no_new_privileges: bool,
    /// Text for /proc/self/attr/exec or its AppArmor sibling.
    pub label: Option<Label>,
    pub terminal: bool,
    pub args: Strings,
    pub env: Strings,
    /// Where the program may be, best first.
    pub programs: Programs,
    /// HOME is not in the environment: take it from the container's /etc/passwd.
    pub find_home: bool,
    pub scheduling: Scheduling,
    /// Descriptors from 3 on that the process gets.
    pub preserved_fds: u32,
}

impl Default for Programs {
    fn default() -> Programs {
        Programs::Search(Vec::new())
    }
}

impl Process {
    /// How our own binary is kept from the container, whose filter lets the stub through or not. SELinux knows
    /// better than to let a container write to the host's programs, and its label would not let memory be executed.
    ///
    /// The stub comes last. `watched`: somebody inside may look into us before, since CAP_SYS_PTRACE in our own user
    /// namespace lets him, dumpable or not (ptrace(2), "Ptrace access mode checking").
    pub fn guard(
        &self,
        idmap: &Idmap,
        facts: &Facts,
        watched: bool,
        stub_passes: impl FnOnce() -> bool,
    ) -> Guard {
        let selinux = self.label.as_ref().is_some_and(|label| label.module == Module::Selinux);
        match facts.binary_owner {
            Some(owner) if !selinux && idmap.reaches(owner, facts) => {
                if stub::WRITTEN && !watched && stub_passes() { Guard::Stub } else { Guard::Copy }
            }
            _ => Guard::Needless,
        }
    }
}

/// How our own binary is kept from a container whose root could write to it, were it to see it (CVE-2019-5736).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Nobody inside could.
    Needless,
    /// A stub is executed before the program ([`crate::sys::stub`]).
    Stub,
    /// There is no stub for this machine, the filter does not let it through, or it would come too late: we are started
    /// again from a copy that cannot be written to.
    Copy,
}

/// How the program is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Programs {
    /// It has a slash in it: this one.
    Path(CString),
    /// Each directory of the *container's* PATH.
    Search(Vec<CString>),
}

/// A security module that knows profiles or labels of processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Module {
    Apparmor,
    Selinux,
}

/// What a security module is told before the exec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    pub module: Module,
    /// Below /proc/self.
    pub file: CString,
    pub text: Vec<u8>,
}

/// What else decides about a process.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub container: &'a str,
    /// `--preserve-fds`.
    pub preserve_fds: u32,
    /// The caller's LISTEN_FDS and LISTEN_FDNAMES (sd_listen_fds(3)).
    pub listen_fds: u32,
    pub listen_names: Option<&'a str>,
    pub degrade: &'a Policy,
    /// See [`KEEP_GROUPS`].
    pub keep_groups: bool,
    /// Whether the process gets pid 1, which LISTEN_PID has to name.
    pub init: bool,
    /// The capabilities that can be granted: all in a user namespace that is not ours, in ours what we have.
    pub grantable: u64,
}

/// crun's annotation: the process keeps the additional groups of our caller, which cannot be set in a user namespace
/// that does not have them.
const KEEP_GROUPS: &str = "run.oci.keep_original_groups";

/// Whether it is among these annotations.
pub fn keeps_groups(annotation: impl Fn(&str) -> Option<String>) -> bool {
    annotation(KEEP_GROUPS).is_some_and(|value| value == "1" || value == "true")
}

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Decides.
///
/// # Errors
/// What is asked for and cannot be granted: groups (`GRP-DENY`), profiles (`LSM-*`), schedulers.
pub fn decide(
    process: &oci::Process,
    idmap: &Idmap,
    facts: &Facts,
    request: Request<'_>,
    degradations: &mut Vec<Degradation>,
) -> Result<Process, Failure> {
    let container = request.container;
    let act = || format!("cannot prepare the process of container {container}");
    let user = process.user();
    let args = process.args().as_deref().unwrap_or_default();
    let program = args.first().ok_or_else(|| Failure::new(act(), "process.args must not be empty"))?;
    let mut env = environment(process.env().as_deref().unwrap_or_default());
    let path = env.iter().rev().find_map(|e| e.strip_prefix("PATH=")).map_or(DEFAULT_PATH, |p| p).to_string();
    // Who sets it to nothing has not set it: so runc, and login(1).
    env.retain(|entry| entry != "HOME=");
    let find_home = !env.iter().any(|e| e.starts_with("HOME="));
    let fds = request.listen_fds;
    if fds > 0 {
        env.push(format!("LISTEN_FDS={fds}"));
        if request.init {
            env.push("LISTEN_PID=1".into());
        }
        env.extend(request.listen_names.map(|names| format!("LISTEN_FDNAMES={names}")));
    }
    let strings = |list: &[String]| -> Result<Strings, Failure> {
        Ok(Strings::new(list.iter().map(|s| c(s, act)).collect::<Result<_, _>>()?))
    };
    Ok(Process {
        uid: user.uid(),
        gid: user.gid(),
        groups: groups(user, idmap, facts, request, degradations)?,
        umask: user.umask(),
        cwd: c(process.cwd(), act)?,
        capabilities: capabilities(process.capabilities().as_ref(), request.grantable, degradations),
        rlimits: rlimits(process.rlimits().as_deref().unwrap_or_default(), facts, container, degradations)?,
        no_new_privileges: process.no_new_privileges() == Some(true),
        label: label(process, facts, request, degradations)?,
        terminal: process.terminal() == Some(true),
        programs: programs(program, &path, act)?,
        args: strings(args)?,
        env: strings(&env)?,
        find_home,
        scheduling: scheduling::decide(process, facts, container)?,
        preserved_fds: fds + request.preserve_fds,
    })
}

/// The step that gives the container a session keyring of its own.
///
/// # Errors
/// None that a valid id can cause.
pub fn keyring(container: &str) -> Result<Step, Failure> {
    let act = || format!("cannot prepare the process of container {container}");
    Ok(Step {
        op: Op::Keyring(c(format!("_ses.{container}"), act)?),
        or: vec![Fallback {
            on: NO_KEY,
            op: Op::Nothing,
            cost: Degradation::weaker(
                "KEYRING",
                "a session keyring of its own",
                "the caller's session keyring",
                "no key is to be had here, often because the quota of keys is used up",
            )
            .fix("sudo sysctl -w kernel.keys.maxkeys=20000, or --no-new-keyring"),
        }],
    })
}

/// The last value of a name wins and keeps the place of the first, as runc does since 1.3.
fn environment(entries: &[String]) -> Vec<String> {
    let name = |e: &str| e.split('=').next().unwrap_or_default().to_string();
    let mut places = std::collections::HashMap::<String, usize>::new();
    let mut out: Vec<String> = Vec::with_capacity(entries.len());
    for entry in entries {
        match places.entry(name(entry)) {
            std::collections::hash_map::Entry::Occupied(place) => out[*place.get()].clone_from(entry),
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(out.len());
                out.push(entry.clone());
            }
        }
    }
    out
}

fn programs(program: &str, path: &str, act: impl Fn() -> String + Copy) -> Result<Programs, Failure> {
    if program.contains('/') {
        return Ok(Programs::Path(c(program, act)?));
    }
    let candidate = |dir: &str| c(Path::new(if dir.is_empty() { "." } else { dir }).join(program), act);
    Ok(Programs::Search(path.split(':').map(candidate).collect::<Result<_, _>>()?))
}

fn groups(
    user: &oci::User,
    idmap: &Idmap,
    facts: &Facts,
    request: Request<'_>,
    degradations: &mut Vec<Degradation>,
) -> Result<Option<Vec<u32>>, Failure> {
    let wanted = user.additional_gids().clone().unwrap_or_default();
    if request.keep_groups && wanted.is_empty() {
        return Ok(None);
    }
    if request.keep_groups {
        return Err(Failure::new(
            format!("cannot set additional groups {wanted:?} in container {}", request.container),
            format!("{KEEP_GROUPS} asks for those of the caller: invalid argument"),
        )
        .fix("leave out one of the two"));
    }
    // A denial is inherited by every user namespace beneath.
    let may = !facts.setgroups_denied
        && idmap.allows_setgroups()
        && (idmap.maps().is_some() || facts.capable(crate::host::CAP_SETGID));
    if may {
        return Ok(Some(wanted));
    }
    if wanted.is_empty() {
        return Ok(None);
    }
    let because = "setgroups is denied in a single-id user namespace";
    let fix = "map gids through subordinate ids (bryo spec --rootless --subids)";
    if request.degrade.allows(Allowance::Groups) {
        let wanted = format!("additional groups {wanted:?}");
        degradations.push(Degradation::allowed("GRP-DENY", wanted, "none", because).fix(fix));
        return Ok(None);
    }
    Err(Failure::new(
        format!("cannot set additional groups {wanted:?} in container {}", request.container),
        format!("{because}: operation not permitted"),
    )
    .code("GRP-DENY")
    .fix(Allowance::Groups.or_without(fix)))
}

/// A set of names as a mask.
pub fn mask(set: Option<&Capabilities>) -> u64 {
    set.into_iter()
        .flatten()
        .filter_map(|cap| caps::Capability::from_str(&format!("CAP_{cap}")).ok())
        .fold(0, |mask, cap| mask | cap.bitmask())
}

/// The names of what is in a mask.
fn names(mask: u64) -> String {
    let names = caps::all().into_iter().filter(|cap| mask & cap.bitmask() != 0).map(|cap| cap.to_string());
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    names.join(", ")
}

fn capabilities(
    wanted: Option<&oci::LinuxCapabilities>,
    grantable: u64,
    degradations: &mut Vec<Degradation>,
) -> Sets {
    let Some(wanted) = wanted else { return Sets::default() };
    let mut sets = Sets {
        bounding: mask(wanted.bounding().as_ref()),
        effective: mask(wanted.effective().as_ref()),
        permitted: mask(wanted.permitted().as_ref()),
        inheritable: mask(wanted.inheritable().as_ref()),
        ambient: mask(wanted.ambient().as_ref()),
    };
    let denied = (sets.bounding | sets.effective | sets.permitted | sets.inheritable) & !grantable;
    if denied != 0 {
        // config.md wants a warning here, and no failure.
        let degradation =
            Degradation::weaker("CAP-DENY", names(denied), "the others", "our caller does not have them");
        degradations
            .push(degradation.fix("docker, podman: --cap-add, or remove them from process.capabilities"));
        sets = Sets {
            bounding: sets.bounding & grantable,
            effective: sets.effective & grantable,
            permitted: sets.permitted & grantable,
            inheritable: sets.inheritable & grantable,
            ambient: sets.ambient & !denied,
        };
    }
    let possible = sets.permitted & sets.inheritable;
    if sets.ambient & !possible != 0 {
        // To be told, and no reason to fail (config.md, "Linux Process"). The words are runc's.
        let names = names(sets.ambient & !possible);
        degradations.push(
            Degradation::weaker(
                "CAP-AMBIENT",
                format!("ambient {names}"),
                "only what is permitted and inheritable",
                format!("can't raise ambient capability {names}: operation not permitted (capabilities(7))"),
            )
            .fix("list it in permitted and inheritable, too, or not in ambient"),
        );
        sets.ambient &= possible;
    }
    sets
}

fn resource(kind: PosixRlimitType) -> (u32, &'static str) {
    use PosixRlimitType as R;
    use nix::sys::resource::Resource;
    match kind {
        R::RlimitCpu => (Resource::RLIMIT_CPU as u32, "RLIMIT_CPU"),
        R::RlimitFsize => (Resource::RLIMIT_FSIZE as u32, "RLIMIT_FSIZE"),
        R::RlimitData => (Resource::RLIMIT_DATA as u32, "RLIMIT_DATA"),
        R::RlimitStack => (Resource::RLIMIT_STACK as u32, "RLIMIT_STACK"),
        R::RlimitCore => (Resource::RLIMIT_CORE as u32, "RLIMIT_CORE"),
        R::RlimitRss => (Resource::RLIMIT_RSS as u32, "RLIMIT_RSS"),
        R::RlimitNproc => (Resource::RLIMIT_NPROC as u32, "RLIMIT_NPROC"),
        R::RlimitNofile => (Resource::RLIMIT_NOFILE as u32, "RLIMIT_NOFILE"),
        R::RlimitMemlock => (Resource::RLIMIT_MEMLOCK as u32, "RLIMIT_MEMLOCK"),
        R::RlimitAs => (Resource::RLIMIT_AS as u32, "RLIMIT_AS"),
        R::RlimitLocks => (Resource::RLIMIT_LOCKS as u32, "RLIMIT_LOCKS"),
        R::RlimitSigpending => (Resource::RLIMIT_SIGPENDING as u32, "RLIMIT_SIGPENDING"),
        R::RlimitMsgqueue => (Resource::RLIMIT_MSGQUEUE as u32, "RLIMIT_MSGQUEUE"),
        R::RlimitNice => (Resource::RLIMIT_NICE as u32, "RLIMIT_NICE"),
        R::RlimitRtprio => (Resource::RLIMIT_RTPRIO as u32, "RLIMIT_RTPRIO"),
        R::RlimitRttime => (Resource::RLIMIT_RTTIME as u32, "RLIMIT_RTTIME"),
    }
}

fn rlimits(
    wanted: &[oci::PosixRlimit],
    facts: &Facts,
    container: &str,
    degradations: &mut Vec<Degradation>,
) -> Result<Vec<Rlimit>, Failure> {
    // A capability of a child namespace does not count here (prlimit(2)).
    let may_raise = facts.is_host_root() && facts.capable(CAP_SYS_RESOURCE);
    let mut out = Vec::new();
    for limit in wanted {
        let (resource, name) = resource(limit.typ());
        let most = facts.hard_limits[resource as usize];
        let (mut soft, mut hard) = (limit.soft(), limit.hard());
        if soft > hard {
            return Err(Failure::new(
                format!("cannot set {name} of container {container}"),
                format!("soft limit {soft} is above hard limit {hard}: invalid argument"),
            )
            .fix("lower soft, or raise hard in process.rlimits"));
        }
        if hard > most && !may_raise {
            degradations.push(
                Degradation::weaker(
                    "RLIM",
                    format!("{name} {}", amount(hard)),
                    format!("{name} {}", amount(most)),
                    format!("the caller's hard limit is {}", amount(most)),
                )
                .fix("raise the caller's limit (limits.conf, LimitNOFILE=), or lower process.rlimits"),
            );
            hard = most;
            soft = soft.min(most);
        }
        out.push(Rlimit { resource, soft, hard });
    }
    Ok(out)
}

fn amount(limit: u64) -> String {
    if limit == u64::MAX { "unlimited".into() } else { limit.to_string() }
}

fn label(
    process: &oci::Process,
    facts: &Facts,
    request: Request<'_>,
    degradations: &mut Vec<Degradation>,
) -> Result<Option<Label>, Failure> {
    let set = |value: &Option<String>| value.clone().filter(|v| !v.is_empty());
    if let Some(profile) = set(process.apparmor_profile()) {
        let container = request.container;
        let act = || format!("cannot confine container {container} by AppArmor profile {profile}");
        if !facts.lsm.apparmor {
            // runc says so too: a profile that cannot be applied is never silently dropped.
            if profile == "unconfined" {
                return Ok(None);
            }
            let because = "AppArmor is not enabled on this host";
            let fix = "remove process.apparmorProfile, or enable AppArmor";
            if request.degrade.allows(Allowance::Apparmor) {
                let wanted = format!("AppArmor profile {profile}");
                degradations
                    .push(Degradation::allowed("LSM-APPARMOR", wanted, "no profile", because).fix(fix));
                return Ok(None);
            }
            return Err(Failure::new(act(), format!("{because}: operation not supported"))
                .code("LSM-APPARMOR")
                .fix(Allowance::Apparmor.or_without(fix)));
        }
        return Ok(Some(Label {
            module: Module::Apparmor,
            file: c"attr/apparmor/exec".into(),
            text: format!("exec {profile}").into_bytes(),
        }));
    }
    if let Some(label) = set(process.selinux_label()) {
        if !facts.lsm.selinux {
            degradations.push(no_label(format!("the SELinux label {label}")));
            return Ok(None);
        }
        return Ok(Some(Label {
            module: Module::Selinux,
            file: c"attr/exec".into(),
            text: label.into_bytes(),
        }));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_of_a_variable_wins_in_the_place_of_the_first() {
        let entries = ["A=1", "B=2", "A=3"].map(String::from);
        assert_eq!(environment(&entries), ["A=3", "B=2"]);
    }

    #[test]
    fn a_program_with_a_slash_is_not_searched() {
        let act = || String::from("cannot");
        assert_eq!(programs("./x", "/bin", act).unwrap(), Programs::Path(c"./x".into()));
        assert_eq!(
            programs("x", "/bin::/usr/bin", act).unwrap(),
            Programs::Search(vec![c"/bin/x".into(), c"./x".into(), c"/usr/bin/x".into()])
        );
    }

    #[test]
    fn capability_names_become_the_kernels_numbers() {
        let set: Capabilities =
            [oci::Capability::Chown, oci::Capability::CheckpointRestore].into_iter().collect();
        assert_eq!(mask(Some(&set)), 1 | (1 << 40));
    }
}
