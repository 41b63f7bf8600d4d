//! What checkpoint and restore depend on: the criu program, what it may do here, and of a container that is to be
//! dumped what of it is not its own. Read only for these two verbs.

use super::idmap::find_program;
use super::mounts::{self, Mount};
use crate::sys::{self, Errno};
use nix::sched::CloneFlags;
use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The program, and what it may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Criu {
    /// As it was named, or `criu`.
    pub asked: PathBuf,
    /// Where it is.
    pub program: Option<PathBuf>,
    /// Those that its file gives it.
    pub file_capabilities: u64,
    pub euid: u32,
    /// Our effective capabilities, which root's programs have as well.
    pub capabilities: u64,
    pub in_child_userns: bool,
    /// The kernel has what criu is made for (`CONFIG_CHECKPOINT_RESTORE`).
    pub kernel: bool,
}

/// Reads it.
///
/// # Errors
/// That of capget(2).
pub fn read(asked: Option<&Path>) -> sys::Result<Criu> {
    let asked = asked.unwrap_or(Path::new("criu")).to_path_buf();
    // A path is what its slash makes it, as for a shell.
    let program = match asked.to_str().filter(|name| !name.contains('/')) {
        Some(name) => find_program(name)
            .or_else(|| Some(Path::new("/usr/sbin").join(name)).filter(|path| path.is_file())),
        None => std::path::absolute(&asked).ok().filter(|path| path.is_file()),
    };
    Ok(Criu {
        file_capabilities: program.as_deref().map_or(0, file_capabilities),
        asked,
        program,
        euid: nix::unistd::geteuid().as_raw(),
        capabilities: sys::caps::effective()?,
        in_child_userns: super::namespaces::in_child_userns(),
        // It is there with that option only.
        kernel: Path::new("/proc/sys/kernel/ns_last_pid").exists(),
    })
}

/// The capabilities that a program gets by its file, if it gets any.
fn file_capabilities(program: &Path) -> u64 {
    let value = std::fs::File::open(program).map_err(sys::fds::io_errno);
    value
        .and_then(|file| sys::xattr::get(file.as_fd(), c"security.capability"))
        .map_or(0, |value| parse_file_capabilities(&value))
}

/// `struct vfs_cap_data`: a word of version and flags, of which the lowest makes the others effective, and twice those that are
/// permitted and those that are inheritable, all little-endian.
fn parse_file_capabilities(value: &[u8]) -> u64 {
    let word = |index: usize| {
        let bytes = value.get(index * 4..index * 4 + 4).and_then(|bytes| bytes.try_into().ok());
        u64::from(u32::from_le_bytes(bytes.unwrap_or_default()))
    };
    if word(0) & 1 == 1 { word(1) | word(3) << 32 } else { 0 }
}

/// Where a process is in every hierarchy of cgroups: its controllers, of which v2 has none, and the path.
///
/// # Errors
/// `ENOENT` once it is gone.
pub fn cgroups(pid: i32) -> sys::Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).map_err(sys::fds::io_errno)?;
    Ok(parse_cgroups(&text))
}

fn parse_cgroups(text: &str) -> Vec<(String, String)> {
    let line = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        Some((fields.next()?.to_string(), fields.next()?.to_string()))
    };
    text.lines().filter_map(line).collect()
}

/// The `CLONE_NEW*` bits of the namespaces that a process does not share with us.
///
/// # Errors
/// `ENOENT` once it is gone.
pub fn namespaces(pid: i32) -> sys::Result<CloneFlags> {
    let kinds = [
        ("cgroup", CloneFlags::CLONE_NEWCGROUP),
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("mnt", CloneFlags::CLONE_NEWNS),
        ("net", CloneFlags::CLONE_NEWNET),
        ("pid", CloneFlags::CLONE_NEWPID),
        ("user", CloneFlags::CLONE_NEWUSER),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("time", sys::clone::time_namespace()),
    ];
    let mut others = CloneFlags::empty();
    for (kind, flag) in kinds {
        let ours = std::fs::metadata(format!("/proc/self/ns/{kind}"));
        match (ours.map_err(sys::fds::io_errno), std::fs::metadata(format!("/proc/{pid}/ns/{kind}"))) {
            // This kernel has none of that kind.
            (Err(Errno::ENOENT), _) => {}
            (ours, theirs) => {
                others.set(flag, ours?.ino() != theirs.map_err(sys::fds::io_errno)?.ino());
            }
        }
    }
    Ok(others)
}

/// What a container has and is not its own, as far as one has to look at it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inside {
    pub mounts: Vec<Mount>,
    /// The file systems that we see.
    pub ours: BTreeSet<String>,
    /// Where init is in the hierarchy of v2.
    pub cgroup: PathBuf,
    /// Standard input, output and error of init.
    pub streams: Vec<Stream>,
    /// The numbers of its namespaces, where one was joined.
    pub network: u64,
    pub pids: u64,
}

/// An open file of init's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// What /proc calls it: a path, or `pipe:[1234]`.
    pub link: String,
    /// The mount in which it was opened.
    pub mount: u64,
    pub inode: u64,
    /// A file or a device that is no terminal.
    pub plain: bool,
    pub terminal: bool,
}

/// Looks at a container by its init.
///
/// # Errors
/// `ENOENT` once init is gone, `EACCES` for who may not look.
pub fn inside(pid: i32) -> sys::Result<Inside> {
    let of = |name: &str| PathBuf::from(format!("/proc/{pid}/{name}"));
    let inode = |path: &Path| std::fs::metadata(path).map(|meta| meta.ino()).map_err(sys::fds::io_errno);
    let mounts = mounts::of(&pid.to_string())?;
    let ours = mounts::of("self")?;
    Ok(Inside {
        mounts,
        ours: ours.into_iter().map(|mount| mount.device).collect(),
        cgroup: cgroups(pid)?
            .into_iter()
            .find(|(v1, _)| v1.is_empty())
            .map_or("/".into(), |(_, path)| path.into()),
        // One that is closed is none.
        streams: (0..3).filter_map(|fd| stream(pid, fd).transpose()).collect::<sys::Result<_>>()?,
        network: inode(&of("ns/net"))?,
        pids: inode(&of("ns/pid"))?,
    })
}

fn stream(pid: i32, fd: i32) -> sys::Result<Option<Stream>> {
    let path = PathBuf::from(format!("/proc/{pid}/fd/{fd}"));
    let link = match std::fs::read_link(&path).map_err(sys::fds::io_errno) {
        Err(Errno::ENOENT) => return Ok(None),
        other => other?.to_string_lossy().into_owned(),
    };
    let meta = std::fs::metadata(&path).map_err(sys::fds::io_errno)?;
    let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).map_err(sys::fds::io_errno)?;
    let number = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    let kind = meta.file_type();
    /// Slaves of pseudoterminals (devices.txt of the kernel); `tty` and `console` are of 4 and 5.
    const TERMINALS: [u64; 10] = [4, 5, 136, 137, 138, 139, 140, 141, 142, 143];
    let terminal = kind.is_char_device() && TERMINALS.contains(&nix::libc::major(meta.rdev()).into());
    Ok(Some(Stream {
        link,
        mount: number.and_then(|number| number.trim().parse().ok()).unwrap_or(0),
        inode: meta.ino(),
        plain: kind.is_file() || kind.is_char_device() && !terminal,
        terminal,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As setcap(8) writes cap_checkpoint_restore=ep (bit 40), and =p.
    #[test]
    fn capabilities_of_a_file_count_if_they_are_effective() {
        let value = |flags: u8| [flags, 0, 0, 2, 0, 0, 32, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        assert_eq!(parse_file_capabilities(&value(1)), 1 << 40 | 1 << 21);
        assert_eq!(parse_file_capabilities(&value(0)), 0);
        assert_eq!(parse_file_capabilities(b"\x01"), 0);
    }

    #[test]
    fn a_cgroup_has_a_path_in_each_hierarchy() {
        let pair = |controllers: &str, path: &str| (controllers.to_string(), path.to_string());
        assert_eq!(
            parse_cgroups("2:cpu,cpuacct:/a\n1:name=systemd:/b:c\n0::/d\n"),
            [pair("cpu,cpuacct", "/a"), pair("name=systemd", "/b:c"), pair("", "/d")]
        );
    }

    #[test]
    fn we_share_every_namespace_with_ourselves() {
        assert_eq!(namespaces(std::process::id() as i32), Ok(CloneFlags::empty()));
    }

    #[test]
    fn we_look_at_ourselves_as_at_any_other() {
        let inside = inside(std::process::id() as i32).unwrap();
        assert!(inside.mounts.iter().any(|mount| mount.at == Path::new("/")));
        assert!(inside.network != 0 && inside.pids != 0);
    }
}
