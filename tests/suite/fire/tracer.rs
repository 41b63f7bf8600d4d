//! A tracer that makes one system call of the runtime fail.
//!
//! It follows the runtime and what it clones by ptrace(2), and no further: a process that is about to execute
//! another program is let go before it does, so that newuidmap stays setuid and the container runs at full speed.
//! A call that is to fail is never made: at its entry its number becomes -1, at its exit its result the error. So
//! the runtime sees what a kernel without the call, an outer seccomp filter or a lack of memory would show it.
//!
//! What strace(1) injects would hit the nth call of each process that it follows, and strace does not let go.

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use libseccomp::ScmpSyscall;
use nix::errno::Errno;
use nix::libc::{self, c_long};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::lab::{Call, Ran};

/// Far above what any call takes, also on a machine that stands still for a while.
const PATIENCE: Duration = Duration::from_secs(60);

/// One call of one process of the runtime: the nth of its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Site {
    /// The runtime is 0, what it and its children clone is counted on from there.
    pub process: usize,
    pub number: c_long,
    pub nth: usize,
}

impl Site {
    pub fn name(self) -> String {
        let number = i32::try_from(self.number).unwrap();
        ScmpSyscall::from(number).get_name().unwrap_or_else(|_| format!("syscall {number}"))
    }
}

/// What shall fail.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    Nothing,
    At(Site, Errno),
    /// Every call of this number, in every process.
    Every(c_long, Errno),
}

impl Fault {
    fn strikes(self, site: Site) -> Option<Errno> {
        match self {
            Fault::At(at, errno) if at == site => Some(errno),
            Fault::Every(number, errno) if number == site.number => Some(errno),
            _ => None,
        }
    }
}

/// How a call of the runtime went.
#[derive(Debug)]
pub struct Traced {
    pub ran: Ran,
    /// It did not end, and was killed.
    pub hung: bool,
    /// What the runtime called, in its order.
    pub sites: Vec<Site>,
    pub struck: usize,
}

/// Makes this call of the runtime under the fault.
pub fn trace(call: Call<'_>, fault: Fault) -> Traced {
    // The shell waits until it is traced.
    let mut running = call.under(["sh", "-c", "read go; exec \"$@\" </dev/null", "sh"]).stdin_pipe().spawn();
    let runtime = Pid::from_raw(running.pid());
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_EXITKILL;
    ptrace::seize(runtime, options).unwrap();
    running.child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let (done, watched) = channel::<()>();
    let watchdog = thread::spawn(move || {
        let hung = watched.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout);
        // It may end at this very moment.
        hung && kill(runtime, Signal::SIGKILL).is_ok()
    });
    let mut tracer = Tracer::of(runtime, fault);
    let status = tracer.follow();
    drop(done);
    let hung = watchdog.join().unwrap();
    let Tracer { sites, struck, .. } = tracer;
    Traced { ran: running.ended(status), hung, sites, struck }
}

#[derive(Debug, Default)]
struct Process {
    ordinal: usize,
    /// Past the loader and the C library, whose calls are not the runtime's.
    begun: bool,
    counts: HashMap<c_long, usize>,
    /// What the call that was entered shall return.
    pending: Option<Errno>,
}

struct Tracer {
    runtime: Pid,
    fault: Fault,
    processes: HashMap<Pid, Process>,
    /// How many there have been.
    born: usize,
    sites: Vec<Site>,
    struck: usize,
    status: Option<ExitStatus>,
}

impl Tracer {
    fn of(runtime: Pid, fault: Fault) -> Tracer {
        let processes = HashMap::from([(runtime, Process::default())]);
        Tracer { runtime, fault, processes, born: 1, sites: Vec::new(), struck: 0, status: None }
    }

    /// Until the runtime has ended. What it leaves running is let go.
    fn follow(&mut self) -> ExitStatus {
        // Nobody else's children: the tests of other threads wait for theirs.
        let ours = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        loop {
            match waitpid(None, Some(ours)) {
                Ok(WaitStatus::PtraceSyscall(pid)) => self.at_call(pid),
                Ok(WaitStatus::PtraceEvent(pid, _, event)) => self.at_event(pid, event),
                Ok(WaitStatus::Stopped(pid, signal)) => self.resume(pid, Some(signal)),
                Ok(WaitStatus::Exited(pid, code)) => self.ended(pid, ExitStatus::from_raw(code << 8)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    self.ended(pid, ExitStatus::from_raw(signal as i32));
                }
                Err(Errno::ECHILD) => return self.status.expect("the runtime has ended"),
                other => panic!("waitpid: {other:?}"),
            }
        }
    }

    fn ended(&mut self, pid: Pid, status: ExitStatus) {
        self.processes.remove(&pid);
        if pid == self.runtime {
            self.status = Some(status);
            for pid in self.processes.keys() {
                // One that is ending needs no interruption.
                let _ = ptrace::interrupt(*pid);
            }
        }
    }

    fn adopt(&mut self, pid: Pid) {
        let ordinal = self.born;
        self.processes.entry(pid).or_insert_with(|| {
            self.born += 1;
            Process { ordinal, begun: true, ..Process::default() }
        });
    }

    fn at_event(&mut self, pid: Pid, event: i32) {
        match event {
            libc::PTRACE_EVENT_CLONE | libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK => {
                // ESRCH: it was killed in the meantime, and so are its children.
                if let Ok(child) = ptrace::getevent(pid) {
                    self.adopt(Pid::from_raw(i32::try_from(child).unwrap()));
                }
            }
            libc::PTRACE_EVENT_EXEC => {
                if let Some(process) = self.processes.get_mut(&pid) {
                    process.begun = false;
                }
            }
            // Its first stop may be seen before its parent's.
            _ => self.adopt(pid),
        }
        self.resume(pid, None);
    }

    /// At the entry or the exit of a system call.
    fn at_call(&mut self, pid: Pid) {
        let (Ok(info), Ok(regs)) = (ptrace::syscall_info(pid), ptrace::getregs(pid)) else {
            // Killed.
            return self.resume(pid, None);
        };
        if info.op == libc::PTRACE_SYSCALL_INFO_ENTRY {
            self.enter(pid, regs);
        } else {
            let pending = self.processes.get_mut(&pid).and_then(|process| process.pending.take());
            if let Some(errno) = pending {
                let rax = -i64::from(errno as i32) as u64;
                // ESRCH: it was killed.
                let _ = ptrace::setregs(pid, libc::user_regs_struct { rax, ..regs });
            }
            self.resume(pid, None);
        }
    }

    fn enter(&mut self, pid: Pid, regs: libc::user_regs_struct) {
        let number = regs.orig_rax as c_long;
        let Some(process) = self.processes.get_mut(&pid) else { return self.resume(pid, None) };
        if !process.begun {
            // The first thing that it does in its own words.
            process.begun = number == libc::SYS_rt_sigaction && regs.rdi == libc::SIGPIPE as u64;
            return self.resume(pid, None);
        }
        // Asked by the standard library, where debug assertions are on, before it closes anything.
        if number == libc::SYS_fcntl && regs.rsi == libc::F_GETFD as u64 {
            return self.resume(pid, None);
        }
        let nth = process.counts.entry(number).or_default();
        *nth += 1;
        let site = Site { process: process.ordinal, number, nth: *nth };
        self.sites.push(site);
        if let Some(errno) = self.fault.strikes(site) {
            process.pending = Some(errno);
            self.struck += 1;
            // ESRCH: it was killed.
            let _ = ptrace::setregs(pid, libc::user_regs_struct { orig_rax: u64::MAX, ..regs });
        } else if site.process > 0 && [libc::SYS_execve, libc::SYS_execveat].contains(&number) {
            self.processes.remove(&pid);
            // Before it is another program, whose setuid bit would not count in a tracer's hands.
            let _ = ptrace::detach(pid, None);
            return;
        }
        self.resume(pid, None);
    }

    /// Lets it go on to its next call, or for good once there is no runtime any more.
    fn resume(&mut self, pid: Pid, signal: Option<Signal>) {
        // ESRCH: somebody has killed it, and its end will be seen.
        let _ = match self.status {
            None => ptrace::syscall(pid, signal),
            Some(_) => ptrace::detach(pid, signal),
        };
    }
}
