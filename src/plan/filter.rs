//! The seccomp filter: `linux.seccomp`, and what crun's annotations say of it.

use crate::report::Failure;
use crate::seccomp::{self, Profile};
use oci_spec::runtime::LinuxSeccomp;
use std::path::PathBuf;

/// The agent's socket, where `listenerPath` names none.
pub const RECEIVER: &str = "run.oci.seccomp.receiver";
/// Refuse a call that nobody knows, instead of passing over it: a misspelt name forbids nothing.
const FAIL_UNKNOWN: &str = "run.oci.seccomp_fail_unknown_syscall";

/// Decides; `None` where nothing is asked for.
///
/// # Errors
/// A profile that makes no sense, an agent without an absolute path, a call that is not to be passed over.
pub fn decide(
    asked: Option<&LinuxSeccomp>,
    annotation: impl Fn(&str) -> Option<String>,
    container: &str,
) -> Result<Option<Profile>, Failure> {
    let Some(asked) = asked else { return Ok(None) };
    let refuse =
        |cause: String| Failure::new(format!("cannot prepare seccomp of container {container}"), cause);
    let profile = match annotation(RECEIVER).map(PathBuf::from) {
        Some(agent) if asked.listener_path().is_none() => {
            if !agent.is_absolute() {
                return Err(refuse(format!(
                    "{RECEIVER}: {agent:?} is not an absolute path: invalid argument"
                )));
            }
            let mut asked = asked.clone();
            asked.set_listener_path(Some(agent));
            seccomp::normalise(&asked)
        }
        _ => seccomp::normalise(asked),
    };
    let profile = profile.map_err(|error| refuse(format!("{error:#}")))?;
    if annotation(FAIL_UNKNOWN).is_some_and(|value| value != "0") {
        if let Some(name) = profile.unknown().next() {
            return Err(refuse(format!("linux.seccomp: no syscall is called {name:?}: invalid argument"))
                .fix(format!("correct the name, or remove the annotation {FAIL_UNKNOWN}")));
        }
    }
    Ok(Some(profile))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn decided(names: &[&str], path: Option<&str>, notes: &[(&str, &str)]) -> Result<Profile, String> {
        let mut asked = json!({"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": names, "action": "SCMP_ACT_NOTIFY"}]});
        if let Some(path) = path {
            asked["listenerPath"] = path.into();
        }
        let asked = serde_json::from_value(asked).unwrap();
        let note = |name: &str| notes.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into());
        decide(Some(&asked), note, "web").map(Option::unwrap).map_err(|failure| failure.to_string())
    }

    #[test]
    fn an_annotation_names_the_agent_where_the_profile_does_not() {
        let by_note = [(RECEIVER, "/run/agent")];
        let path = |profile: Profile| profile.listener_path().unwrap().to_path_buf();
        assert_eq!(path(decided(&["mkdir"], None, &by_note).unwrap()), PathBuf::from("/run/agent"));
        assert_eq!(path(decided(&["mkdir"], Some("/x"), &by_note).unwrap()), PathBuf::from("/x"));
        assert!(
            decided(&["mkdir"], None, &[(RECEIVER, "agent")]).unwrap_err().contains("not an absolute path")
        );
        assert!(decided(&["mkdir"], None, &[]).unwrap_err().contains("listenerPath"));
    }

    #[test]
    fn a_call_that_nobody_knows_is_refused_where_that_is_asked_for() {
        // The second is known on another architecture alone.
        let names = ["mkdir", "arm_fadvise64_64", "mkdri"];
        assert!(decided(&names, Some("/x"), &[]).is_ok());
        assert!(decided(&names, Some("/x"), &[(FAIL_UNKNOWN, "0")]).is_ok());
        let error = decided(&names, Some("/x"), &[(FAIL_UNKNOWN, "1")]).unwrap_err();
        assert!(error.contains("\"mkdri\""), "{error}");
        assert!(decided(&names[..2], Some("/x"), &[(FAIL_UNKNOWN, "")]).is_ok());
    }
}
