//! Limits, written into the files of a cgroup.
//!
//! What to write is decided by [`crate::plan::limits`]. Here an errno becomes a sentence: the kernel says `ENOENT`
//! for a controller that nobody has handed down to this cgroup, and for a file that it is too old to have.

use crate::cgroup::Cgroup;
use crate::plan::limits::{Absent, Setting};
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
pub fn restore(cgroup: &Cgroup, undo: &[Setting]) -> Vec<String> {
    restore_all(cgroup, undo)
}

fn restore_all(files: &impl Files, undo: &[Setting]) -> Vec<String> {
    // What was never written is written anew, with the value that it has; but for a device that does not exist,
    // which may be why we are here.
    let failed = undo.iter().filter(|setting| match write(files, setting) {
        Ok(()) | Err(Errno::ENODEV) => false,
        Err(_) => true,
    });
    failed.map(|setting| setting.file.clone()).collect()
}

/// The files, so that tests can have some.
trait Files {
    fn path(&self) -> &Path;
    /// The controllers that the whole hierarchy has.
    fn offered(&self) -> Option<String>;
    fn read(&self, file: &str) -> sys::Result<String>;
    fn write(&self, file: &str, value: &str) -> sys::Result<()>;
}

impl Files for Cgroup {
    fn path(&self) -> &Path {
        self.path()
    }
    fn offered(&self) -> Option<String> {
        Cgroup::open(Path::new("/")).and_then(|root| root.read("cgroup.controllers")).ok()
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
    let Setting { controller, file, value, absent } = setting;
    let file = match absent {
        Absent::Instead { file: other, .. } if files.read(file).is_err() => other,
        _ => file.as_str(),
    };
    let (path, text) = (files.path().display(), errno_text(errno));
    match errno {
        Errno::ENOENT => {
            let Ok(list) = files.read("cgroup.controllers") else {
                return Failure::new(
                    act,
                    format!("{file}: cgroup {path} went away with its last process: {text}"),
                );
            };
            if controller.is_empty() || names(&list, controller) {
                return Failure::new(act, format!("{file}: this kernel has no such limit: {text}"));
            }
            if files.offered().is_some_and(|list| !names(&list, controller)) {
                let cause = format!("{file}: there is no {controller} controller in /sys/fs/cgroup: {text}");
                return Failure::new(act, cause)
                    .code("CG-CTRL")
                    .fix("use a kernel that has it, for cgroup v2");
            }
            let cause = format!("{file}: the {controller} controller is not delegated to {path}: {text}");
            Failure::new(act, cause).code("CG-CTRL").fix(
                if of_user(files.path()) && USERS.contains(controller) {
                    format!("add {controller} to Delegate= in a drop-in of user@.service")
                } else {
                    format!("write +{controller} to cgroup.subtree_control of the cgroups above")
                },
            )
        }
        Errno::EACCES | Errno::EPERM => {
            Failure::new(act, format!("cannot write {file} of cgroup {path}: {text}"))
                .code("CG-NODELEG")
                .fix("have the cgroup delegated: systemd-run --user --scope -p Delegate=yes bryo ...")
        }
        _ => Failure::new(act, format!("{file} of cgroup {path} cannot be {:?}: {text}", value.trim())),
    }
}

fn names(list: &str, controller: &str) -> bool {
    list.split_ascii_whitespace().any(|name| name == controller)
}

/// Whether a cgroup is below some user's manager.
fn of_user(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str().to_str().is_some_and(|name| name.starts_with("user@")))
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
        fn offered(&self) -> Option<String> {
            Some("cpuset memory pids io".into())
        }
        fn read(&self, file: &str) -> sys::Result<String> {
            self.files.borrow().get(file).cloned().ok_or(Errno::ENOENT)
        }
        fn write(&self, file: &str, value: &str) -> sys::Result<()> {
            match value {
                "bad" => return Err(Errno::EINVAL),
                "mine" => return Err(Errno::EACCES),
                "250:7 rbps=max" => return Err(Errno::ENODEV),
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
        let line = failure("/x", setting("hugetlb", "hugetlb.2MB.max", "0", Absent::Fails));
        assert!(line.contains("CG-CTRL: hugetlb.2MB.max: there is no hugetlb controller"), "{line}");
        let instead = Absent::Instead { file: "io.weight", value: "7475".into() };
        let line = failure("/x", setting("io", "io.bfq.weight", "750", instead));
        assert!(line.contains("CG-CTRL: io.weight: the io controller is not delegated to /x"), "{line}");
        let gone = Fake::new("/x", &[]);
        let pids = [setting("pids", "pids.max", "5", Absent::Fails)];
        let line = write_all(&gone, &pids, "web").unwrap_err().to_string();
        assert!(line.contains("cgroup /x went away with its last process"), "{line}");
        let line = failure("/x", setting("pids", "pids.max", "bad", Absent::Fine));
        assert!(line.ends_with("pids.max of cgroup /x cannot be \"bad\": invalid argument"), "{line}");
        let line = failure("/x", setting("pids", "pids.max", "mine", Absent::Fine));
        assert!(line.contains("CG-NODELEG") && line.contains("permission denied; fix: "), "{line}");
    }

    #[test]
    fn going_back_skips_nothing_but_what_fails_and_tells_of_that() {
        let files = Fake::new("/x", &["io.max", "pids.max", "memory.max"]);
        let settings = ["bad", "250:7 rbps=max", "8"].into_iter().zip(["memory.max", "io.max", "pids.max"]);
        let settings: Vec<Setting> =
            settings.map(|(value, file)| setting("", file, value, Absent::Fine)).collect();
        assert_eq!(restore_all(&files, &settings), ["memory.max"]);
        assert_eq!(files.read("pids.max"), Ok("8".into()));
    }
}
