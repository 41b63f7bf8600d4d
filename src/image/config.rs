//! The configuration of an image (config.md of the image specification), and what becomes of it in that of a
//! container (conversion.md).
//!
//! | image                     | config.json                                                                  |
//! |---------------------------|------------------------------------------------------------------------------|
//! | Entrypoint, Cmd           | `process.args`; what the caller gives takes the place of Cmd                 |
//! | Env                       | `process.env`, with a PATH, a HOME and for a terminal a TERM where none is   |
//! | WorkingDir                | `process.cwd`; the runtime makes it where it is missing                      |
//! | User                      | `process.user`, see [`user`](super::user)                                    |
//! | Labels                    | annotations                                                                  |
//! | ExposedPorts, StopSignal, author, created, os, architecture … | annotations `org.opencontainers.image.*` |
//! | Volumes                   | nothing: see [`ImageConfig::volumes`]                                        |

use super::digest::Digest;
use super::{json, null_is_default};
use crate::spec::{self, Spec};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Keys of annotations that tell a runtime how to run the container. An image has no say in that: its labels of
/// such names are left out. Those of other runtimes are here since any of them may be given the bundle.
const RESERVED: [&str; 11] = [
    "io.bryo.",
    "run.oci.",
    "org.systemd.property.",
    "org.criu.",
    "io.podman.",
    "io.container.",
    "io.containers.",
    "io.kubernetes.",
    "io.katacontainers.",
    "dev.gvisor.",
    "module.wasm.",
];

#[derive(Debug, Deserialize)]
struct Document {
    #[serde(default, deserialize_with = "null_is_default")]
    config: Inner,
    #[serde(default, deserialize_with = "null_is_default")]
    rootfs: RootFs,
    os: Option<String>,
    #[serde(rename = "os.version")]
    os_version: Option<String>,
    #[serde(rename = "os.features", default, deserialize_with = "null_is_default")]
    os_features: Vec<String>,
    architecture: Option<String>,
    variant: Option<String>,
    author: Option<String>,
    created: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct RootFs {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default, deserialize_with = "null_is_default")]
    diff_ids: Vec<String>,
}

/// Lists and maps are null as often as they are empty: Go writes them so.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Inner {
    #[serde(deserialize_with = "null_is_default")]
    user: String,
    #[serde(deserialize_with = "null_is_default")]
    env: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    entrypoint: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    working_dir: String,
    #[serde(deserialize_with = "null_is_default")]
    labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "null_is_default")]
    exposed_ports: BTreeMap<String, Value>,
    #[serde(deserialize_with = "null_is_default")]
    volumes: BTreeMap<String, Value>,
    #[serde(deserialize_with = "null_is_default")]
    stop_signal: String,
}

/// What an image says of itself.
#[derive(Debug)]
pub struct ImageConfig(Document);

impl ImageConfig {
    /// Reads it.
    ///
    /// # Errors
    /// What is no such document.
    pub fn parse(bytes: &[u8]) -> Result<ImageConfig, String> {
        let document: Document = json("the configuration of the image", bytes)?;
        if document.os.as_deref().is_some_and(|os| os != "linux" && !os.is_empty()) {
            let os = document.os.unwrap_or_default();
            return Err(format!("the image is for {os:?}, not for linux: operation not supported"));
        }
        Ok(ImageConfig(document))
    }

    /// The digests of the plain layers, from the lowest on.
    ///
    /// # Errors
    /// One that is none.
    pub fn diff_ids(&self) -> Result<Vec<Digest>, String> {
        let rootfs = &self.0.rootfs;
        if rootfs.kind != "layers" {
            return Err(format!(
                "the root file system is of the kind {:?}: operation not supported",
                rootfs.kind
            ));
        }
        rootfs.diff_ids.iter().map(|text| Digest::parse(text)).collect()
    }

    /// As whom it wants to run.
    pub fn user(&self) -> &str {
        &self.0.config.user
    }

    /// The processor that it is for, if it says so.
    pub fn architecture(&self) -> Option<&str> {
        self.0.architecture.as_deref().filter(|name| !name.is_empty())
    }

    /// The directories that hold data which outlive a container.
    ///
    /// They get no mounts. The writable layer of a bundle is the bundle's own and stays, so what is written below
    /// these paths lives as long as a volume of an engine does, which belongs to one container as well; and with
    /// `--ephemeral` everything goes, as it should. What is left to do is that they are there.
    pub fn volumes(&self) -> impl Iterator<Item = &str> {
        self.0.config.volumes.keys().map(String::as_str)
    }

    /// Makes the configuration that of a container. `command` takes the place of the image's own.
    pub fn apply(&self, spec: &mut Spec, command: &[String]) -> Vec<String> {
        let mut remarks = Vec::new();
        let config = &self.0.config;
        let command = if command.is_empty() { &config.cmd } else { command };
        let args: Vec<String> = config.entrypoint.iter().chain(command).cloned().collect();
        if !args.is_empty() {
            spec.process.args = args;
        }
        if !config.working_dir.is_empty() {
            // Docker takes a relative one for one below the root.
            spec.process.cwd = format!("/{}", config.working_dir.trim_start_matches('/'));
        }
        // The names that it has, and a bare name has no value (and would be the caller's own).
        let (env, bad): (Vec<_>, Vec<_>) =
            config.env.iter().cloned().partition(|entry| entry.find('=').is_some_and(|at| at > 0));
        remarks.extend(
            bad.iter().map(|entry| format!("{entry:?} in the image's environment has no value: left out")),
        );
        spec.process.env = env;
        spec.annotations = self.annotations(&mut remarks);
        remarks
    }

    fn annotations(&self, remarks: &mut Vec<String>) -> BTreeMap<String, String> {
        let Document { config, os, os_version, os_features, architecture, variant, author, created, .. } =
            &self.0;
        let list = |words: Vec<&str>| (!words.is_empty()).then(|| words.join(","));
        let ports = list(config.exposed_ports.keys().map(String::as_str).collect());
        let features = list(os_features.iter().map(String::as_str).collect());
        let stop_signal = Some(config.stop_signal.clone());
        let implied = [
            ("os", os),
            ("os.version", os_version),
            ("os.features", &features),
            ("architecture", architecture),
            ("variant", variant),
            ("author", author),
            ("created", created),
            ("exposedPorts", &ports),
            ("stopSignal", &stop_signal),
        ];
        let named = implied.into_iter().filter_map(|(name, value)| {
            let value = value.as_ref().filter(|value| !value.is_empty())?;
            Some((format!("org.opencontainers.image.{name}"), value.clone()))
        });
        let mut annotations: BTreeMap<_, _> = named.collect();
        for (key, value) in &config.labels {
            if is_reserved(key) {
                remarks
                    .push(format!("the image's label {key:?} would tell a runtime how to run it: left out"));
            } else if !key.is_empty() {
                // What it says explicitly goes before what follows from the rest.
                annotations.insert(key.clone(), value.clone());
            }
        }
        annotations
    }
}

/// Whether an annotation of this name changes what runs, or how.
fn is_reserved(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    key == "bundle" || RESERVED.iter().any(|prefix| key.starts_with(prefix))
}

/// Completes the environment, for a user with this home.
pub fn complete_env(env: &mut Vec<String>, home: &str, terminal: bool) {
    let term = if terminal { spec::TERM } else { "" };
    let home = format!("HOME={home}");
    for entry in [spec::PATH, term, &home] {
        let name = entry.split_inclusive('=').next().unwrap_or_default();
        if !name.is_empty() && !env.iter().any(|known| known.starts_with(name)) {
            env.push(entry.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{SpecKind, default_spec};
    use serde_json::json;

    fn image(config: Value) -> ImageConfig {
        let document = json!({
            "os": "linux", "architecture": "amd64", "created": "2026-01-01T00:00:00Z", "author": "moss",
            "rootfs": {"type": "layers", "diff_ids": []}, "config": config,
        });
        ImageConfig::parse(document.to_string().as_bytes()).unwrap()
    }

    fn applied(config: Value, command: &[&str]) -> (Value, Vec<String>) {
        let mut spec = default_spec(&SpecKind::Root, true);
        let command: Vec<String> = command.iter().map(ToString::to_string).collect();
        let remarks = image(config).apply(&mut spec, &command);
        (serde_json::to_value(spec).unwrap(), remarks)
    }

    #[test]
    fn the_callers_command_takes_the_place_of_cmd_alone() {
        let config = json!({"Entrypoint": ["/entry", "-x"], "Cmd": ["a", "b"]});
        assert_eq!(applied(config.clone(), &[]).0["process"]["args"], json!(["/entry", "-x", "a", "b"]));
        assert_eq!(applied(config, &["c"]).0["process"]["args"], json!(["/entry", "-x", "c"]));
        let none = json!({"Entrypoint": null, "Cmd": null});
        assert_eq!(applied(none.clone(), &[]).0["process"]["args"], json!(["sh"]));
        assert_eq!(applied(none, &["c"]).0["process"]["args"], json!(["c"]));
        assert_eq!(applied(Value::Null, &[]).0["process"]["cwd"], "/");
    }

    #[test]
    fn the_working_directory_is_absolute() {
        for (given, wanted) in [("/srv", "/srv"), ("srv", "/srv"), ("//srv/", "/srv/"), ("", "/")] {
            assert_eq!(applied(json!({"WorkingDir": given}), &[]).0["process"]["cwd"], wanted);
        }
    }

    #[test]
    fn an_environment_is_complete_and_the_images_own_goes_first() {
        let (config, remarks) = applied(json!({"Env": ["A=1", "B", "=C", "HOME=/x", "D="]}), &[]);
        assert_eq!(config["process"]["env"], json!(["A=1", "HOME=/x", "D="]));
        assert_eq!(remarks.len(), 2, "{remarks:?}");
        let mut env = vec!["A=1".to_string(), "HOME=/x".into()];
        complete_env(&mut env, "/root", false);
        assert_eq!(env, ["A=1", "HOME=/x", spec::PATH]);
        let mut env = vec!["PATH=/bin".to_string(), "TERMINAL=x".into()];
        complete_env(&mut env, "/root", true);
        assert_eq!(env, ["PATH=/bin", "TERMINAL=x", "TERM=xterm", "HOME=/root"]);
    }

    #[test]
    fn what_it_says_of_itself_becomes_annotations() {
        let config = json!({
            "Labels": {"a.b": "c", "org.opencontainers.image.author": "lichen"},
            "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "StopSignal": "SIGQUIT",
        });
        let (config, remarks) = applied(config, &[]);
        assert_eq!(remarks, Vec::<String>::new());
        assert_eq!(
            config["annotations"],
            json!({
                "a.b": "c",
                "org.opencontainers.image.architecture": "amd64",
                "org.opencontainers.image.author": "lichen",
                "org.opencontainers.image.created": "2026-01-01T00:00:00Z",
                "org.opencontainers.image.exposedPorts": "53/udp,80/tcp",
                "org.opencontainers.image.os": "linux",
                "org.opencontainers.image.stopSignal": "SIGQUIT",
            })
        );
    }

    #[test]
    fn a_label_cannot_tell_a_runtime_what_to_do() {
        let labels = json!({
            "io.bryo.network": "host", "IO.BRYO.rootfs.host": "true", "run.oci.hooks.stdout": "/x",
            "org.systemd.property.ExecStartPre": "x", "bundle": "/", "io.katacontainers.config": "x", "kept": "yes",
        });
        let (config, remarks) = applied(json!({"Labels": labels}), &[]);
        assert_eq!(remarks.len(), 6, "{remarks:?}");
        let annotations = config["annotations"].as_object().unwrap();
        assert!(annotations.keys().all(|key| key == "kept" || key.starts_with("org.opencontainers.image.")));
        assert_eq!(annotations["kept"], "yes");
    }

    #[test]
    fn an_image_for_something_else_is_refused() {
        let parse = |text: &str| ImageConfig::parse(text.as_bytes()).and_then(|config| config.diff_ids());
        let layers = r#""rootfs": {"type": "layers", "diff_ids": ["sha256:x"]}"#;
        for bad in [
            "",
            "[1]",
            r#"{"os": "windows"}"#,
            r#"{"os": "linux"}"#,
            &format!("{{{layers}}}"),
            r#"{"rootfs": {"type": "layers+base"}}"#,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(parse(r#"{"rootfs": {"type": "layers", "diff_ids": null}}"#), Ok(Vec::new()));
    }
}
