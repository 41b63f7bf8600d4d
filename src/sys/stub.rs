//! A program of a hundred bytes between us and the container's.
//!
//! While init executes the container's program, /proc/self/exe is whatever init itself was started from. An
//! image whose entry point says `#!/proc/self/exe` thereby runs the runtime's own binary inside, where its
//! file can be opened by way of /proc/PID/exe and written to once nobody runs it (CVE-2019-5736). Where the
//! container's root could do that, because it owns the file, init executes a stub from sealed memory first,
//! and the stub executes the program: what /proc/self/exe leads to then is the stub. The usual remedy, to
//! start the whole runtime again from a copy of itself, costs a millisecond more; it is left for containers whose
//! seccomp filter does not let the stub through ([`CALLS`]).
//!
//! The stub gets the program's path as its first argument, the program's arguments after it, and the
//! environment as it is. A descriptor whose number is stored in it is made close-on-exec, and takes the report
//! of a failure: eight bytes as [`crate::sync`] reads them. Where that cannot be done the stub ends: most likely
//! it was started by an image through /proc/self/exe, and the descriptor is not open (EBADF).

use super::process::Strings;
use super::{Errno, Result, check};
use std::ffi::CStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Whether there is a stub for this machine.
pub const WRITTEN: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));

/// What a seccomp filter has to allow the stub, and us on the way to it, beyond the execve(2) of the program.
pub const CALLS: [&str; 4] = ["execveat", "fcntl", "write", "exit_group"];

/// The first four bytes of the report: the tag of a failure, the tag of the exec, and no number.
#[cfg(test)]
const REPORT: [u8; 4] = [5, 6, 0, 0];

#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".pushsection .rodata.bryo_stub, \"a\"",
    "bryo_stub_start:",
    "mov edi, dword ptr [rip + bryo_stub_fd]",
    "mov esi, 2",  // F_SETFD
    "mov edx, 1",  // FD_CLOEXEC
    "mov eax, 72", // fcntl
    "syscall",
    "test eax, eax",
    "jnz 3f",
    "mov rdi, qword ptr [rsp + 8]",
    "lea rsi, [rsp + 16]",
    "mov rcx, qword ptr [rsp]",
    "lea rdx, [rsp + rcx * 8 + 16]",
    "mov eax, 59", // execve
    "syscall",
    "3:",
    "neg eax",
    "shl rax, 32",
    "or rax, 0x605",
    "push rax",
    "mov edi, dword ptr [rip + bryo_stub_fd]",
    "mov rsi, rsp",
    "mov edx, 8",
    "mov eax, 1", // write
    "syscall",
    "mov edi, 1",
    "mov eax, 231", // exit_group
    "syscall",
    ".balign 4",
    "bryo_stub_fd:",
    ".long -1",
    "bryo_stub_end:",
    ".popsection",
);

#[cfg(target_arch = "aarch64")]
std::arch::global_asm!(
    ".pushsection .rodata.bryo_stub, \"a\"",
    ".balign 4",
    "bryo_stub_start:",
    "adr x9, bryo_stub_fd",
    "ldr w0, [x9]",
    "mov x1, #2",  // F_SETFD
    "mov x2, #1",  // FD_CLOEXEC
    "mov x8, #25", // fcntl
    "svc #0",
    "cbnz w0, 3f",
    "ldr x10, [sp]",
    "ldr x0, [sp, #8]",
    "add x1, sp, #16",
    "add x2, x1, x10, lsl #3",
    "mov x8, #221", // execve
    "svc #0",
    "3:",
    "neg w0, w0",
    "lsl x0, x0, #32",
    "mov x11, #0x605",
    "orr x0, x0, x11",
    "str x0, [sp, #-16]!",
    "ldr w0, [x9]",
    "mov x1, sp",
    "mov x2, #8",
    "mov x8, #64", // write
    "svc #0",
    "mov x0, #1",
    "mov x8, #94", // exit_group
    "svc #0",
    "bryo_stub_fd:",
    ".long -1",
    "bryo_stub_end:",
    ".popsection",
);

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn code(fd: i32) -> Option<Vec<u8>> {
    unsafe extern "C" {
        static bryo_stub_start: u8;
        static bryo_stub_fd: u8;
        static bryo_stub_end: u8;
    }
    let (start, slot, end) = (&raw const bryo_stub_start, &raw const bryo_stub_fd, &raw const bryo_stub_end);
    let len = end as usize - start as usize;
    // SAFETY: the assembler laid these bytes out between the two labels, in read-only memory.
    let mut code = unsafe { std::slice::from_raw_parts(start, len) }.to_vec();
    let slot = slot as usize - start as usize;
    code[slot..slot + 4].copy_from_slice(&fd.to_ne_bytes());
    Some(code)
}

/// See [`WRITTEN`].
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn code(_fd: i32) -> Option<Vec<u8>> {
    None
}

/// Where the stub is loaded, as good a place as any in an empty address space.
const BASE: u64 = 0x40_0000;
const HEADERS: u64 = 64 + 2 * 56;

/// The smallest ELF file that says it all: a header, the one segment, and a stack that is not executable
/// (elf(5)).
fn image(code: &[u8]) -> Vec<u8> {
    let machine: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    let len = HEADERS + code.len() as u64;
    let mut out = Vec::with_capacity(len as usize);
    out.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    out.extend([2u16.to_le_bytes(), machine.to_le_bytes()].concat()); // ET_EXEC
    out.extend(1u32.to_le_bytes());
    out.extend([BASE + HEADERS, 64, 0].map(u64::to_le_bytes).concat()); // entry, program headers, no sections
    out.extend(0u32.to_le_bytes());
    out.extend([64u16, 56, 2, 0, 0, 0].map(u16::to_le_bytes).concat());
    let mut segment = |kind: u32, flags: u32, fields: [u64; 6]| {
        out.extend([kind.to_le_bytes(), flags.to_le_bytes()].concat());
        out.extend(fields.map(u64::to_le_bytes).concat());
    };
    segment(1, 5, [0, BASE, BASE, len, len, 4096]); // PT_LOAD, readable and executable
    segment(0x6474_e551, 6, [0, 0, 0, 0, 0, 16]); // PT_GNU_STACK, not executable
    out.extend(code);
    out
}

/// A stub, ready to be executed.
#[derive(Debug)]
pub struct Stub {
    file: OwnedFd,
    /// A copy of the socket for the report, which must survive the first of the two execs.
    report: OwnedFd,
}

impl Stub {
    /// Makes a stub that reports to `socket`; descriptors below `from` are left alone.
    ///
    /// # Errors
    /// `ENOTSUP` on machines that it is not written for, `EACCES` where vm.memfd_noexec forbids it.
    pub fn new(socket: BorrowedFd<'_>, from: i32) -> Result<Stub> {
        // SAFETY: duplicates a descriptor; the result is new.
        let report = check(unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_DUPFD_CLOEXEC, from) })?;
        // SAFETY: as above.
        let report = unsafe { OwnedFd::from_raw_fd(report as i32) };
        let code = code(report.as_raw_fd()).ok_or(Errno::ENOTSUP)?;
        let file = sealed(c"bryo-stub", &mut image(&code).as_slice())?;
        Ok(Stub { file, report })
    }

    /// Lets the report's descriptor survive the coming exec; the stub closes it by the next.
    ///
    /// # Errors
    /// None that is known.
    pub fn arm(&self) -> Result<()> {
        super::fds::set_cloexec(self.report.as_raw_fd(), false)
    }

    /// execveat(2) of the stub; returns only to say why not.
    pub fn exec(&self, program: &CStr, args: &Strings, env: &Strings) -> Errno {
        let mut argv = vec![program.as_ptr()];
        argv.extend(args.pointers());
        let env = env.pointers();
        // SAFETY: an empty C string, and two null-terminated arrays of C strings that outlive the call.
        unsafe {
            libc::syscall(
                libc::SYS_execveat,
                self.file.as_raw_fd(),
                c"".as_ptr(),
                argv.as_ptr(),
                env.as_ptr(),
                libc::AT_EMPTY_PATH,
            )
        };
        Errno::last()
    }
}

const SEALS: i32 = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;

/// A copy of the program that we are, in memory that nobody can write to.
///
/// # Errors
/// `EACCES` where vm.memfd_noexec forbids it, `ENOENT` without /proc.
pub fn own_copy() -> Result<OwnedFd> {
    let mut ourselves = File::open("/proc/self/exe").map_err(super::fds::io_errno)?;
    sealed(c"bryo", &mut ourselves)
}

/// Whether we were started from such a copy.
pub fn is_own_copy() -> bool {
    let Ok(ourselves) = File::open("/proc/self/exe") else { return false };
    // SAFETY: asks for flags only.
    let seals = unsafe { libc::fcntl(ourselves.as_raw_fd(), libc::F_GET_SEALS) };
    seals >= 0 && seals & SEALS == SEALS
}

fn sealed(name: &CStr, content: &mut impl Read) -> Result<OwnedFd> {
    let mut file = File::from(memory(name)?);
    std::io::copy(content, &mut file).map_err(super::fds::io_errno)?;
    // SAFETY: integers only.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, SEALS) })?;
    Ok(file.into())
}

fn memory(name: &CStr) -> Result<OwnedFd> {
    const MFD_EXEC: libc::c_uint = 0x10;
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    let create = |flags| {
        // SAFETY: a C string and flags.
        check(unsafe { libc::memfd_create(name.as_ptr(), flags) })
    };
    // Before Linux 6.3 the flag does not exist, and every memory file can be executed.
    let fd = match create(flags | MFD_EXEC) {
        Err(Errno::EINVAL) => create(flags)?,
        other => other?,
    };
    // SAFETY: a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::{self, FromInit, Place};
    use std::ffi::CString;
    use std::os::fd::AsFd;

    /// Runs a program through a stub in a child; returns what it reports, and its exit status.
    fn through_stub(program: &CStr, args: &[&str]) -> (Option<FromInit>, i32) {
        let (ours, theirs) = sync::pair().unwrap();
        let strings = |list: &[&str]| Strings::new(list.iter().map(|s| CString::new(*s).unwrap()).collect());
        let (args, env) = (strings(args), strings(&["STUB=yes"]));
        let stub = Stub::new(theirs.as_fd(), 100).unwrap();
        // SAFETY: the child only makes system calls.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            stub.arm().unwrap();
            stub.exec(program, &args, &env);
            super::super::process::exit_now(99);
        }
        drop((stub, theirs));
        let report = ours.reported().unwrap();
        let mut status = 0;
        // SAFETY: waits for the child that was just made.
        unsafe { libc::waitpid(pid, &raw mut status, 0) };
        (report, libc::WEXITSTATUS(status))
    }

    #[test]
    fn the_program_gets_its_arguments_and_environment_and_the_socket_ends() {
        let script = "test $# = 2 -a \"$1$2\" = ab -a \"$STUB\" = yes -a ! -e /proc/self/fd/100 && exit 42";
        let (report, status) = through_stub(c"/bin/sh", &["sh", "-c", script, "sh", "a", "b"]);
        assert!(report.is_none(), "{report:?}");
        assert_eq!(status, 42);
    }

    #[test]
    fn a_program_that_cannot_be_executed_is_reported_with_its_errno() {
        let (report, status) = through_stub(c"/etc/passwd", &["x"]);
        match report {
            Some(FromInit::Failed(failed)) => {
                assert_eq!((failed.place, failed.errno), (Place::Exec, Errno::EACCES))
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(status, 1);
    }

    #[test]
    fn the_report_is_the_one_that_sync_reads() {
        let (ours, theirs) = sync::pair().unwrap();
        let bytes = [REPORT, (Errno::ENOEXEC as i32).to_le_bytes()].concat();
        super::super::fds::send(theirs.as_fd(), &bytes, None).unwrap();
        assert!(matches!(ours.reported().unwrap(), Some(FromInit::Failed(f)) if f.errno == Errno::ENOEXEC));
    }

    #[test]
    fn a_stub_that_an_image_starts_ends_at_once() {
        let (_ours, theirs) = sync::pair().unwrap();
        let stub = Stub::new(theirs.as_fd(), 100).unwrap();
        let path = format!("/proc/self/fd/{}", stub.file.as_raw_fd());
        // Not armed: its descriptor is gone after the exec.
        let status = std::process::Command::new(path).status().unwrap();
        assert_eq!(status.code(), Some(1));
    }
}
