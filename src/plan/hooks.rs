//! The hooks, in the shape in which they are run.

use crate::report::Failure;
use oci_spec::runtime::{Hook as Spec, Hooks as SpecHooks};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A program to run at a point of the container's life (config.md, "POSIX-platform Hooks").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    pub path: PathBuf,
    /// With the name it is called by first.
    pub args: Vec<String>,
    /// The whole environment: nothing of ours is inherited (CVE-2025-23266). None for that of the process, which is
    /// what a startContainer hook without one gets; other hooks get none.
    pub env: Option<Vec<(String, String)>>,
    /// Killed after this time; in seconds in the configuration.
    pub timeout: Option<Duration>,
    /// Files of the host that it writes to; without them what it says is told where it fails.
    #[serde(default, skip_serializing_if = "Output::is_none")]
    pub output: Output,
}

/// Where crun's annotations lead the standard streams of all hooks: to the end of files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<PathBuf>,
}

impl Output {
    /// Whether there are none.
    pub fn is_none(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none()
    }
}

/// The annotations; a relative path is the bundle's.
pub const STDOUT: &str = "run.oci.hooks.stdout";
pub const STDERR: &str = "run.oci.hooks.stderr";

/// All of them by kind, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    /// In the runtime's namespaces, before the pivot.
    #[serde(skip)]
    pub prestart: Vec<Hook>,
    /// Likewise, after those.
    #[serde(skip)]
    pub create_runtime: Vec<Hook>,
    /// In the container's namespaces, before the pivot.
    #[serde(skip)]
    pub create_container: Vec<Hook>,
    /// In the container, before the program.
    #[serde(skip)]
    pub start_container: Vec<Hook>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub poststart: Vec<Hook>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<Hook>,
}

impl Hooks {
    /// Whether nothing is to be run once the container has started.
    pub fn none_after_start(&self) -> bool {
        self.poststart.is_empty() && self.poststop.is_empty()
    }
}

/// Reads the hooks of a configuration.
///
/// # Errors
/// A path that is not absolute, a timeout that is not positive, an environment entry without a value.
pub fn decide(
    spec: Option<&SpecHooks>,
    annotation: impl Fn(&str) -> Option<String>,
    bundle: &Path,
    container: &str,
) -> Result<Hooks, Failure> {
    let Some(spec) = spec else { return Ok(Hooks::default()) };
    let file = |name| annotation(name).filter(|path| !path.is_empty()).map(|path| bundle.join(path));
    let output = Output { stdout: file(STDOUT), stderr: file(STDERR) };
    let list = |kind: &str, hooks: &Option<Vec<Spec>>| {
        let hook = |(i, hook)| {
            read(hook, &output).map_err(|cause| {
                Failure::new(format!("cannot prepare {kind} hook #{i} of container {container}"), cause)
            })
        };
        hooks.iter().flatten().enumerate().map(hook).collect::<Result<Vec<_>, _>>()
    };
    #[allow(deprecated)] // Docker puts a prestart hook on almost every container.
    let prestart = list("prestart", spec.prestart())?;
    Ok(Hooks {
        prestart,
        create_runtime: list("createRuntime", spec.create_runtime())?,
        create_container: list("createContainer", spec.create_container())?,
        start_container: list("startContainer", spec.start_container())?,
        poststart: list("poststart", spec.poststart())?,
        poststop: list("poststop", spec.poststop())?,
    })
}

fn read(hook: &Spec, output: &Output) -> Result<Hook, String> {
    if !hook.path().is_absolute() {
        return Err(format!("path {:?} is not absolute", hook.path()));
    }
    let timeout = match hook.timeout() {
        None => None,
        Some(seconds) => match u64::try_from(seconds) {
            Ok(seconds) if seconds > 0 => Some(Duration::from_secs(seconds)),
            _ => return Err(format!("timeout {seconds} is not greater than zero")),
        },
    };
    let mut args = hook.args().clone().unwrap_or_default();
    if args.is_empty() {
        args.push(hook.path().to_string_lossy().into_owned());
    }
    let pair = |entry: &String| {
        let (name, value) =
            entry.split_once('=').ok_or(format!("env: {entry:?} is not of the form NAME=VALUE"))?;
        Ok((name.to_string(), value.to_string()))
    };
    let env =
        hook.env().as_ref().map(|env| env.iter().map(pair).collect::<Result<_, String>>()).transpose()?;
    Ok(Hook { path: hook.path().clone(), args, env, timeout, output: output.clone() })
}
