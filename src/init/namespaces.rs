//! Making the namespaces that belong to the container's user namespace.

use super::{Orders, isolate_failure};
use crate::plan::namespaces::Namespaces;
use crate::sync::{Channel, Failed, FromInit, Isolate};
use crate::sys::clone::{setns, time_namespace, unshare};
use crate::sys::fds::io_errno;
use crate::sys::{Errno, process};
use nix::fcntl::{OFlag, openat};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use std::ffi::CStr;
use std::fs::File;

/// Becomes root inside, then makes what has to belong to that root.
pub fn isolate(namespaces: &Namespaces, root_inside: bool) -> Result<(), Failed> {
    let mut kinds = namespaces.by_init;
    if kinds.contains(time_namespace()) {
        time(namespaces.time_offsets.as_deref()).map_err(isolate_failure(Isolate::Time))?;
        kinds.remove(time_namespace());
    }
    // From here on nobody may look into us: we hold descriptors of the host, and a process of a joined pid
    // namespace could see us (CVE-2016-9962). Not before the maps are written, see `obey`; not before the
    // offsets are, since the files of /proc/self would be root's then.
    process::set_undumpable().map_err(isolate_failure(Isolate::Root))?;
    if root_inside {
        process::set_gid(0).map_err(isolate_failure(Isolate::Root))?;
        process::set_uid(0).map_err(isolate_failure(Isolate::Root))?;
    } else if namespaces.joined.iter().any(|(kind, _)| *kind == CloneFlags::CLONE_NEWUSER) {
        be_root_if_there_is_one()?;
    }
    // A change of ids has made us whatever fs.suid_dumpable says.
    process::set_undumpable().map_err(isolate_failure(Isolate::Root))?;
    unshare(kinds).map_err(isolate_failure(Isolate::Unshare))
}

/// The same for who has joined all of them: nothing is to be made.
pub fn joined() -> Result<(), Failed> {
    process::set_undumpable().map_err(isolate_failure(Isolate::Root))?;
    be_root_if_there_is_one()
}

/// Which ids exist in a joined user namespace is not known; where root does, be root, since whoever has no id
/// there cannot make files (EOVERFLOW). Where it does not, we have its capabilities all the same.
fn be_root_if_there_is_one() -> Result<(), Failed> {
    for become_root in [process::set_gid as fn(u32) -> _, process::set_uid] {
        match become_root(0) {
            Ok(()) | Err(Errno::EINVAL) => {}
            Err(errno) => return Err(isolate_failure(Isolate::Root)(errno)),
        }
    }
    Ok(())
}

/// A time namespace takes effect for children only, but its maker may enter it: no fork is needed.
fn time(offsets: Option<&[u8]>) -> Result<(), Errno> {
    unshare(time_namespace())?;
    if let Some(offsets) = offsets {
        std::fs::write("/proc/self/timens_offsets", offsets).map_err(io_errno)?;
    }
    let own = File::open("/proc/self/ns/time_for_children").map_err(io_errno)?;
    setns(own, time_namespace())
}

/// Lends our namespaces to an exec. We cannot be looked into, so nobody but us can open them.
pub fn lend(orders: &Orders<'_>, connection: &Channel) -> Result<(), Errno> {
    let all = orders.namespaces.map_or(CloneFlags::empty(), Namespaces::all);
    lend_kinds(all, orders, connection)?;
    connection.report(&FromInit::Ready)
}

/// Lends launch what the helper of the network has to enter: the user namespace, where it is not launch's own, and the
/// network namespace, which ends it.
pub fn lend_network(orders: &Orders<'_>, channel: &Channel) -> Result<(), Errno> {
    let all = orders.namespaces.map_or(CloneFlags::empty(), Namespaces::all);
    lend_kinds(all & (CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET), orders, channel)
}

fn lend_kinds(kinds: CloneFlags, orders: &Orders<'_>, channel: &Channel) -> Result<(), Errno> {
    for (kind, path) in FILES {
        if kinds.contains(kind) {
            let own = openat(orders.proc, c"self", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
            let file = openat(&own, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
            channel.report(&FromInit::Namespace { kind: kind.bits(), file })?;
        }
    }
    Ok(())
}

/// In the order in which they have to be entered: user first, which gives the right to the others.
const FILES: [(CloneFlags, &CStr); 8] = [
    (CloneFlags::CLONE_NEWUSER, c"ns/user"),
    (CloneFlags::CLONE_NEWIPC, c"ns/ipc"),
    (CloneFlags::CLONE_NEWUTS, c"ns/uts"),
    (CloneFlags::CLONE_NEWNET, c"ns/net"),
    (CloneFlags::CLONE_NEWPID, c"ns/pid"),
    (CloneFlags::CLONE_NEWCGROUP, c"ns/cgroup"),
    (CloneFlags::from_bits_retain(0x80), c"ns/time"),
    (CloneFlags::CLONE_NEWNS, c"ns/mnt"),
];
