//! Where bryo is: its directories, the security modules, the outer container, and what is installed beside it.

use super::check::{Check, Scopes};
use super::children::Tell;
use crate::host::criu;
use crate::host::outer::Outer;
use crate::host::process::lsm;
use crate::host::{self};
use crate::image::store::default_root;
use crate::plan::checkpoint::allowed;
use crate::report::{Failure, errno_text, io_text};
use crate::state::store::{Home, Whereabouts, check_private};
use crate::sys::{Errno, mount};
use nix::libc;
use nix::unistd::{AccessFlags, eaccess};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// The topic. `state` is what `--root` says.
pub fn look(state: Option<&Path>, outer: &Outer, tell: &mut Tell<'_>) {
    tell(Check::fine("outer container", outer.describe()));
    tell(state_directory(state));
    tell(rootfs_place());
    tell(security_modules());
    tell(checkpoint());
}

/// Where the states of containers go. Nothing is made there.
fn state_directory(state: Option<&Path>) -> Check {
    let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let whereabouts = Whereabouts {
        euid: nix::unistd::geteuid().as_raw(),
        in_child_userns: host::namespaces::in_child_userns(),
        runtime_dir,
    };
    let what = "state directory";
    let lacking = |failure: &Failure| super::container::refused(what, failure).stopping(Scopes::ALL);
    let root = match (state, Home::of(&whereabouts)) {
        (Some(state), _) => state.to_path_buf(),
        (None, Home::Given(root)) => root,
        (None, Home::Private(private)) => {
            let checked = if private.symlink_metadata().is_ok() {
                check_private(&private, whereabouts.euid)
            } else {
                Ok(())
            };
            if let Err(failure) = checked {
                return lacking(&failure);
            }
            private
        }
    };
    match eaccess(there(&root), AccessFlags::W_OK | AccessFlags::X_OK) {
        Ok(()) if state.is_none() && whereabouts.runtime_dir.is_none() && whereabouts.euid != 0 => {
            Check::fine(what, format!("{}, as XDG_RUNTIME_DIR is not set", root.display()))
        }
        Ok(()) => Check::fine(what, root.display().to_string()),
        Err(errno) => {
            let cause = format!("{}: {}", root.display(), errno_text(errno));
            lacking(&Failure::new("", cause).code("DIR-XDG").fix("set XDG_RUNTIME_DIR, or give --root"))
        }
    }
}

/// What there is of a path.
fn there(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"))
}

/// Whether programs may be run where `bryo bundle` puts root file systems.
fn rootfs_place() -> Check {
    let what = "root file systems";
    let variable = |name: &str| std::env::var_os(name);
    let is_root = nix::unistd::geteuid().is_root() && !host::namespaces::in_child_userns();
    let default = || default_root(is_root, variable("XDG_DATA_HOME"), variable("HOME"));
    let place = match variable("BRYO_STORE").map_or_else(default, |store| Ok(PathBuf::from(store))) {
        Ok(place) => place,
        Err(failure) => return super::container::refused(what, &failure).serving(Scopes::NONE),
    };
    let flags = std::fs::File::open(there(&place))
        .map_err(|e| io_text(&e))
        .and_then(|dir| mount::flags(dir.as_fd()).map_err(errno_text));
    match flags {
        Ok(flags) if flags & libc::ST_NOEXEC != 0 => Check::lacking(
            what,
            "FS-NOEXEC",
            format!("{} is on a file system mounted noexec: {}", place.display(), errno_text(Errno::EACCES)),
            Some("put them elsewhere, or have it mounted without noexec"),
        ),
        Ok(_) => Check::fine(what, format!("programs may run in {}", place.display())),
        Err(cause) => Check::fine(what, format!("{}: {cause}", place.display())),
    }
}

fn security_modules() -> Check {
    let lsm = lsm();
    let words = |there: bool, name: &str| format!("{}{name}", if there { "" } else { "no " });
    let evidence = format!("{}, {}", words(lsm.apparmor, "AppArmor"), words(lsm.selinux, "SELinux"));
    Check::fine("security modules", evidence)
}

/// Nobody's containers are worse off without: a plain user's host is a fine one, and hardly any of them may.
fn checkpoint() -> Check {
    let facts = criu::read(None).map_err(|errno| Failure::errno("cannot checkpoint", errno));
    let program = facts.and_then(|facts| allowed(&facts, "cannot checkpoint").map(PathBuf::from));
    let evidence = match program {
        Ok(program) => format!("by {}", program.display()),
        Err(refused) => {
            let way_out = refused.way_out().map(|fix| format!("; fix: {fix}")).unwrap_or_default();
            format!("not from here, and needed to run nothing: CRIU: {}{way_out}", refused.cause())
        }
    };
    Check::fine("checkpoint", evidence).serving(Scopes::NONE)
}
