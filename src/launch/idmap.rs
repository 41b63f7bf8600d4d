//! Writing the id maps of a user namespace, or having them written.

use crate::plan::idmap::{Idmap, Mapping, Maps, lines};
use crate::report::{Act, Failure, io_text, one_line};
use crate::sys::program::Program;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

/// Name services behind the helpers may be slow; they are not slower than this.
const DEADLINE: Duration = Duration::from_secs(30);

/// Writes the maps of the user namespace of `pid`, which is in one that is below ours. `whom` they are for is said in errors.
///
/// # Errors
/// What the kernel or a helper says.
pub fn write(idmap: &Idmap, pid: i32, whom: &dyn Display) -> Result<(), Failure> {
    match idmap {
        Idmap::Inherited { .. } => Ok(()),
        Idmap::Direct { maps, deny_setgroups } => direct(maps, *deny_setgroups, pid, whom),
        Idmap::Helpers { maps, newuidmap, newgidmap } => {
            // Both at once: each spends its time in name services and in the kernel.
            let uid = start("uids", newuidmap, &maps.uids, pid, whom)?;
            let gid = start("gids", newgidmap, &maps.gids, pid, whom);
            let uid = finish("uids", uid, whom);
            let gid = finish("gids", gid?, whom);
            uid.and(gid)
        }
    }
}

fn direct(maps: &Maps, deny_setgroups: bool, pid: i32, whom: &dyn Display) -> Result<(), Failure> {
    let write = |file: &str, text: &str, what: &str| {
        std::fs::write(format!("/proc/{pid}/{file}"), text).act(|| format!("cannot map {what} for {whom}"))
    };
    if deny_setgroups {
        // Or the kernel would refuse the gid map: a group could be dropped that denies something.
        write("setgroups", "deny", "gids")?;
    }
    write("gid_map", &lines(&maps.gids), "gids")?;
    write("uid_map", &lines(&maps.uids), "uids")
}

/// The arguments of a helper, its name first.
fn argv(helper: &Path, map: &[Mapping], pid: i32) -> Vec<OsString> {
    let mut argv = vec![helper.file_name().unwrap_or_default().to_os_string(), pid.to_string().into()];
    for m in map {
        argv.extend([m.inside, m.outside, m.count].map(|n| n.to_string().into()));
    }
    argv
}

fn start(
    what: &str,
    helper: &Path,
    map: &[Mapping],
    pid: i32,
    whom: &dyn Display,
) -> Result<Program, Failure> {
    Program::start(helper, &argv(helper, map, pid), &[], b"", Some(DEADLINE)).map_err(|error| {
        Failure::new(
            format!("cannot map {what} for {whom}"),
            format!("{}: {}", helper.display(), io_text(&error)),
        )
        .code("ID-NOHELPER")
        .fix(format!("see that {} may be executed, or install it anew", helper.display()))
    })
}

fn finish(what: &str, helper: Program, whom: &dyn Display) -> Result<(), Failure> {
    let act = format!("cannot map {what} for {whom}");
    match helper.finish() {
        Ok(outcome) if outcome.status.success() => Ok(()),
        Ok(outcome) => {
            let said = one_line(&String::from_utf8_lossy(&outcome.output));
            let cause = if said.is_empty() { outcome.status.to_string() } else { said };
            // It says so of what the kernel refuses it; the rest is what it refuses itself.
            let powerless = cause.contains("write to ");
            let failure = Failure::new(act, format!("{cause}: operation not permitted"));
            Err(if powerless {
                failure.code("ID-HELPERCAP").fix("see that newuidmap and newgidmap are setuid root, or have CAP_SETUID and CAP_SETGID, and that these are not taken away around us")
            } else {
                failure.code("ID-RANGE").fix("map only ids that /etc/subuid and /etc/subgid give you")
            })
        }
        Err(error) if error.kind() == ErrorKind::TimedOut => {
            Err(Failure::new(act, "the helper did not end in 30 seconds: connection timed out")
                .code("ID-NOHELPER")
                .fix("see which name service newuidmap waits for"))
        }
        Err(error) => Err(Failure::new(act, io_text(&error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_gets_the_pid_and_every_line() {
        let map = [
            Mapping { inside: 0, outside: 1000, count: 1 },
            Mapping { inside: 1, outside: 100_000, count: 65536 },
        ];
        let argv = argv(Path::new("/usr/bin/newuidmap"), &map, 42);
        assert_eq!(argv, ["newuidmap", "42", "0", "1000", "1", "1", "100000", "65536"]);
    }
}
