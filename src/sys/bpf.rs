//! bpf(2): loading a program that decides about devices, and attaching it to a cgroup.

use super::{Errno, Result, check};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// One instruction (`struct bpf_insn`).
pub type Instruction = [u8; 8];

// enum bpf_cmd
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;

const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
/// `BPF_CGROUP_DEVICE`, where such a program is attached.
const CGROUP_DEVICE: u32 = 6;

const F_ALLOW_MULTI: u32 = 1 << 1;
const F_REPLACE: u32 = 1 << 2;

/// `BPF_CGROUP_MAX_PROGS`: how many programs can be attached to one cgroup.
const MAX_ATTACHED: usize = 64;

/// What a signal may interrupt the verifier before we give up.
const ATTEMPTS: usize = 30;

/// The head of what `BPF_PROG_LOAD` takes; the kernel reads the rest as zero.
#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// What `BPF_PROG_ATTACH` and `BPF_PROG_DETACH` take.
#[repr(C)]
#[derive(Default)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

/// What `BPF_PROG_QUERY` takes.
#[repr(C)]
#[derive(Default)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    unused: u32,
}

/// What `BPF_PROG_GET_FD_BY_ID` takes.
#[repr(C)]
struct Id(u32);

/// Calls bpf(2).
///
/// # Safety
/// `T` is laid out as the part of `union bpf_attr` that belongs to `command`, without padding, and what it points
/// to is of the size it says, alive, and writable where the kernel writes.
unsafe fn bpf<T>(command: libc::c_int, attr: &mut T) -> Result<libc::c_long> {
    // SAFETY: the kernel reads, and writes, no more of the structure than the size that it is given; for the rest
    // the caller vouches.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) })
}

fn fd(raw: libc::c_long) -> OwnedFd {
    // SAFETY: a command that returns a descriptor has just made it, close-on-exec.
    unsafe { OwnedFd::from_raw_fd(raw as i32) }
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd() as u32
}

/// Has the kernel verify a program that decides about devices, and load it.
///
/// # Errors
/// `EPERM` without CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN (before Linux 5.11 also beyond RLIMIT_MEMLOCK),
/// `EINVAL` or `EACCES` for a program that the verifier refuses or a kernel without CONFIG_CGROUP_BPF, `ENOSYS`
/// without CONFIG_BPF_SYSCALL.
pub fn load(program: &[Instruction]) -> Result<OwnedFd> {
    load_logged(program, &mut [])
}

/// What the verifier has against a program that [`load`] could not load.
pub fn verifier_log(program: &[Instruction]) -> String {
    let mut log = vec![0; 1 << 16];
    // The errno is known already; with ENOSPC the log is cut.
    let _ = load_logged(program, &mut log);
    let length = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    String::from_utf8_lossy(&log[..length]).into_owned()
}

fn load_logged(program: &[Instruction], log: &mut [u8]) -> Result<OwnedFd> {
    let mut prog_name = [0; 16];
    // Shown by bpftool, so that whoever finds it knows whose it is.
    prog_name[..12].copy_from_slice(b"bryo_devices");
    let mut attr = Load {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).map_err(|_| Errno::E2BIG)?,
        insns: program.as_ptr() as u64,
        // That of this program. It matters to helpers of the kernel, of which none is called.
        license: c"Apache-2.0".as_ptr() as u64,
        prog_name,
        ..Load::default()
    };
    if !log.is_empty() {
        attr.log_level = 1;
        attr.log_size = u32::try_from(log.len()).map_err(|_| Errno::E2BIG)?;
        attr.log_buf = log.as_mut_ptr() as u64;
    }
    for _ in 1..ATTEMPTS {
        // SAFETY: `Load` is the layout of this command; it points to `insn_cnt` instructions of eight bytes, to a C
        // string, and to nothing or to `log_size` bytes that are ours to write, all of which outlive the call.
        match unsafe { bpf(PROG_LOAD, &mut attr) } {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            other => return other.map(fd),
        }
    }
    Err(Errno::EAGAIN)
}

/// Attaches a program to a cgroup beside those that are there, or in the place of one of them. All programs of a
/// cgroup, and of those above it, have to agree to an access.
///
/// # Errors
/// `EPERM` where a cgroup above lets no program be attached below it, `EINVAL` for a `replaced` before Linux 5.6.
pub fn attach(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let mut attr = Attach {
        target_fd: number(cgroup),
        attach_bpf_fd: number(program),
        attach_type: CGROUP_DEVICE,
        attach_flags: F_ALLOW_MULTI | if replaced.is_some() { F_REPLACE } else { 0 },
        replace_bpf_fd: replaced.map_or(0, number),
    };
    // SAFETY: `Attach` is the layout of this command, and holds no pointers.
    unsafe { bpf(PROG_ATTACH, &mut attr) }.map(drop)
}

/// Detaches a program from a cgroup.
///
/// # Errors
/// `ENOENT` where it is not attached.
pub fn detach(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    let mut attr = Attach {
        target_fd: number(cgroup),
        attach_bpf_fd: number(program),
        attach_type: CGROUP_DEVICE,
        ..Attach::default()
    };
    // SAFETY: as in `attach`.
    unsafe { bpf(PROG_DETACH, &mut attr) }.map(drop)
}

/// The programs attached to a cgroup itself.
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN or CAP_NET_ADMIN.
pub fn attached(cgroup: BorrowedFd<'_>) -> Result<Vec<OwnedFd>> {
    let mut ids = [0_u32; MAX_ATTACHED];
    let mut attr = Query {
        target_fd: number(cgroup),
        attach_type: CGROUP_DEVICE,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: MAX_ATTACHED as u32,
        ..Query::default()
    };
    // SAFETY: `Query` is the layout of this command, and points to `prog_cnt` numbers that are ours to write.
    unsafe { bpf(PROG_QUERY, &mut attr) }?;
    let mut programs = Vec::new();
    for id in ids.into_iter().take(attr.prog_cnt as usize) {
        // SAFETY: `Id` is the layout of this command, and holds no pointers.
        match unsafe { bpf(PROG_GET_FD_BY_ID, &mut Id(id)) } {
            // Detached by somebody else meanwhile.
            Err(Errno::ENOENT) => {}
            other => programs.push(fd(other?)),
        }
    }
    Ok(programs)
}
