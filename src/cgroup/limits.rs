//! Limits, written into the files of a cgroup.
//!
//! What to write is decided by [`crate::plan::limits`]. Here an errno becomes a sentence: the kernel says `ENOENT`
//! for a controller that nobody has handed down to this cgroup, and for a file that it is too old to have.

use super::Cgroup;
use crate::plan::limits::{Absent, Limits, Setting};
use crate::report::{Failure, errno_text};
use crate::sys::{self, Errno};
use std::path::Path;

/// Writes them in their order; the first that cannot be written ends it.
///
/// # Errors
/// `CG-CTRL` where a controller is missing, `CG-NODELEG` where we may not write, else what the kernel has against
/// the value.
pub fn apply(cgroup: &Cgroup, settings: &[Setting], container: &str) -> Result<(), Failure> {
    write_all(cgroup, settings, container)
}

/// Writes back what was there before, as far as that goes: nothing is left out because of another. Returns the
/// files in which the new values stay.
pub fn restore(cgroup: &Cgroup, undo: &Limits) -> Vec<String> {
    // What was never written is written anew, with the value that it has.
    let failed = undo.settings.iter().filter(|setting| write(cgroup, setting).is_err());
    failed.map(|setting| setting.file.clone()).collect()
}

/// The files, so that tests can have some.
trait Files {
    fn path(&self) -> &Path;
    fn read(&self, file: &str) -> sys::Result<String>;
    fn write(&self, file: &str, value: &str) -> sys::Result<()>;
}

impl Files for Cgroup {
    fn path(&self) -> &Path {
        self.path()
    }
    fn read(&self, file: &str) -> sys::Result<String> {
        self.read(file)
    }
    fn write(&self, file: &str, value: &str) -> sys::Result<()> {
        // The kernel may be interrupted while it reclaims memory for a limit.
        sys::retry(|| self.write(file, value))
    }
}

fn write_all(files: &impl Files, settings: &[Setting], container: &str) -> Result<(), Failure> {
    settings.iter().try_for_each(|setting| {
        write(files, setting).map_err(|errno| {
            let act = format!("cannot limit resources of container {container}");
            explain(files, setting, errno, act)
        })
    })
}

fn write(files: &impl Files, setting: &Setting) -> sys::Result<()> {
    match (files.write(&setting.file, &setting.value), &setting.absent) {
        (Err(Errno::ENOENT), Absent::Fine) => Ok(()),
        (Err(Errno::ENOENT), Absent::Instead { file, value }) => files.write(file, value),
        (other, _) => other,
    }
}

/// The controllers that systemd hands down to a user's manager if it is told to.
const USERS: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

fn explain(files: &impl Files, setting: &Setting, errno: Errno, act: String) -> Failure {
    let Setting { controller, file, value, .. } = setting;
    let (path, text) = (files.path().display(), errno_text(errno));
    match errno {
        Errno::ENOENT => {
            let list = files.read("cgroup.controllers").unwrap_or_default();
            if controller.is_empty() || list.split_ascii_whitespace().any(|word| word == *controller) {
                return Failure::new(act, format!("{file}: this kernel has no such limit: {text}"));
            }
            let failure = Failure::new(
                act,
                format!("{file}: the {controller} controller is not delegated to {path}: {text}"),
            )
            .code("CG-CTRL");
            let of_user = files
                .path()
                .components()
                .any(|part| part.as_os_str().to_str().is_some_and(|name| name.starts_with("user@")));
            failure.fix(if of_user && USERS.contains(controller) {
                format!("add {controller} to Delegate= in a drop-in of user@.service")
            } else {
                format!("write +{controller} to cgroup.subtree_control of the cgroups above")
            })
        }
        Errno::EACCES | Errno::EPERM => {
            Failure::new(act, format!("cannot write {file} of cgroup {path}: {text}"))
                .code("CG-NODELEG")
                .fix("have the cgroup delegated: systemd-run --user --scope -p Delegate=yes bryo ...")
        }
        _ => Failure::new(act, format!("{file} of cgroup {path} cannot be {:?}: {text}", value.trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    /// A cgroup whose files take any value but "bad".
    struct Fake {
        path: &'static Path,
        files: RefCell<BTreeMap<String, String>>,
    }

    impl Fake {
        fn new(path: &'static str, files: &[&str]) -> Fake {
            let files = files.iter().map(|file| ((*file).into(), "memory pids".into())).collect();
            Fake { path: Path::new(path), files: RefCell::new(files) }
        }
    }

    impl Files for Fake {
        fn path(&self) -> &Path {
            self.path
        }
        fn read(&self, file: &str) -> sys::Result<String> {
            self.files.borrow().get(file).cloned().ok_or(Errno::ENOENT)
        }
        fn write(&self, file: &str, value: &str) -> sys::Result<()> {
            match value {
                "bad" => return Err(Errno::EINVAL),
                "mine" => return Err(Errno::EACCES),
                _ => {}
            }
            let mut files = self.files.borrow_mut();
            files.get_mut(file).map(|text| *text = value.into()).ok_or(Errno::ENOENT)
        }
    }

    fn setting(controller: &'static str, file: &str, value: &str, absent: Absent) -> Setting {
        Setting { controller, file: file.into(), value: value.into(), absent }
    }

    fn failure(path: &'static str, setting: Setting) -> String {
        let files = Fake::new(path, &["cgroup.controllers", "pids.max"]);
        write_all(&files, &[setting], "web").unwrap_err().to_string()
    }

    #[test]
    fn what_is_absent_is_fine_or_has_another_place_or_fails() {
        let files = Fake::new("/x", &["cgroup.controllers", "io.weight", "pids.max"]);
        let instead = Absent::Instead { file: "io.weight", value: "7475".into() };
        let settings = [
            setting("memory", "memory.swap.max", "max", Absent::Fine),
            setting("io", "io.bfq.weight", "750", instead),
            setting("pids", "pids.max", "5", Absent::Fails),
        ];
        write_all(&files, &settings, "web").unwrap();
        assert_eq!(files.read("io.weight"), Ok("7475".into()));
        assert_eq!(files.read("pids.max"), Ok("5".into()));
    }

    #[test]
    fn an_errno_becomes_one_line_with_the_way_out() {
        let path = "/user.slice/user-1000.slice/user@1000.service/web.scope";
        assert_eq!(
            failure(path, setting("cpuset", "cpuset.cpus", "0", Absent::Fails)),
            format!(
                "cannot limit resources of container web: CG-CTRL: cpuset.cpus: the cpuset controller is not delegated to {path}: no such file or directory; fix: add cpuset to Delegate= in a drop-in of user@.service"
            )
        );
        let line = failure("/system.slice/x", setting("cpuset", "cpuset.cpus", "0", Absent::Fails));
        assert!(line.contains("CG-CTRL") && line.contains("+cpuset to cgroup.subtree_control"), "{line}");
        let line = failure("/x", setting("memory", "memory.swap.max", "0", Absent::Fails));
        assert!(line.contains("memory.swap.max: this kernel has no such limit: no such file"), "{line}");
        let line = failure("/x", setting("pids", "pids.max", "bad", Absent::Fine));
        assert!(line.ends_with("pids.max of cgroup /x cannot be \"bad\": invalid argument"), "{line}");
        let line = failure("/x", setting("pids", "pids.max", "mine", Absent::Fine));
        assert!(line.contains("CG-NODELEG") && line.contains("permission denied; fix: "), "{line}");
    }
}
