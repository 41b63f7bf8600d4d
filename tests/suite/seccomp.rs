//! seccomp: actions, arguments, architectures, and a filter on exec too.

use serde_json::{Value, json};

use crate::lab::{Bundle, Lab, bryo_only, field};

/// Everything is allowed but what the rules say.
fn filter(rules: Value) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"],
        "syscalls": rules,
    })
}

fn filtered(lab: &Lab, seccomp: Value) -> Bundle<'_> {
    lab.bundle().own_rootfs().with(|c| c["linux"]["seccomp"] = seccomp)
}

fn mkdir_rule(action: &str) -> Value {
    json!({ "names": ["mkdir", "mkdirat"], "action": action })
}

/// The filter lets the process run and forbids it to make directories.
#[track_caller]
fn assert_mkdir_is_refused(bundle: Bundle) {
    let ran = bundle.sh("echo alive; mkdir /tmp/x").run().exits(1);
    assert_eq!(ran.stdout, "alive\n", "{}", ran.stderr);
    assert!(ran.stderr.contains("Operation not permitted"), "{}", ran.stderr);
}

#[test]
fn a_process_under_a_filter_says_so() {
    let lab = Lab::new();
    let status = filtered(&lab, filter(json!([]))).args(["cat", "/proc/self/status"]).run().ok().stdout;
    assert_eq!(field(&status, "Seccomp"), "2");
}

#[test]
fn without_a_filter_there_is_none() {
    let lab = Lab::new();
    let status = lab.bundle().args(["cat", "/proc/self/status"]).run().ok().stdout;
    assert_eq!(field(&status, "Seccomp"), "0");
}

#[test]
fn a_call_fails_with_the_error_of_the_rule() {
    let lab = Lab::new();
    let mut rule = mkdir_rule("SCMP_ACT_ERRNO");
    for (errno, text) in [
        (None, "Operation not permitted"),
        (Some(13), "Permission denied"),
        (Some(38), "Function not implemented"),
    ] {
        if let Some(errno) = errno {
            rule["errnoRet"] = errno.into();
        }
        let ran = filtered(&lab, filter(json!([rule]))).sh("mkdir /tmp/x").run().exits(1);
        assert!(ran.stderr.contains(text), "{errno:?}: {}", ran.stderr);
    }
}

#[test]
fn the_default_action_may_be_an_error() {
    let lab = Lab::new();
    // Everything that busybox calls to print a line, and what the last step of a runtime may, but no mkdir.
    let known = vec![
        "access",
        "arch_prctl",
        "brk",
        "capget",
        "chdir",
        "clone",
        "close",
        "close_range",
        "dup",
        "dup2",
        "dup3",
        "execve",
        "execveat",
        "exit",
        "exit_group",
        "faccessat",
        "faccessat2",
        "epoll_create1",
        "epoll_ctl",
        "epoll_pwait",
        "eventfd2",
        "fcntl",
        "fstat",
        "fstatfs",
        "gettid",
        "madvise",
        "nanosleep",
        "sched_getaffinity",
        "sched_yield",
        "sigaltstack",
        "clone3",
        "pidfd_send_signal",
        "futex",
        "getcwd",
        "getdents64",
        "getegid",
        "geteuid",
        "getgid",
        "getpid",
        "getppid",
        "getrandom",
        "getuid",
        "ioctl",
        "kill",
        "lseek",
        "lstat",
        "mmap",
        "mprotect",
        "mremap",
        "munmap",
        "newfstatat",
        "open",
        "openat",
        "pipe",
        "pipe2",
        "poll",
        "prctl",
        "prlimit64",
        "read",
        "readlink",
        "readlinkat",
        "rseq",
        "rt_sigaction",
        "rt_sigprocmask",
        "rt_sigreturn",
        "sendmsg",
        "set_robust_list",
        "set_tid_address",
        "setgid",
        "setuid",
        "stat",
        "statx",
        "sysinfo",
        "tgkill",
        "umask",
        "uname",
        "vfork",
        "wait4",
        "write",
        "writev",
    ];
    let mut seccomp = filter(json!([{ "names": known, "action": "SCMP_ACT_ALLOW" }]));
    seccomp["defaultAction"] = "SCMP_ACT_ERRNO".into();
    assert_mkdir_is_refused(filtered(&lab, seccomp.clone()));
    seccomp["defaultErrnoRet"] = 28.into();
    let ran = filtered(&lab, seccomp).sh("mkdir /tmp/x").run().exits(1);
    assert!(ran.stderr.contains("No space left on device"), "{}", ran.stderr);
}

#[test]
fn a_call_that_kills_kills() {
    let lab = Lab::new();
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD"] {
        let bundle = filtered(&lab, filter(json!([mkdir_rule(action)])));
        // The shell reports its child's death by SIGSYS.
        bundle.sh("ulimit -c 0; mkdir /tmp/x; echo $?").run().prints("159\n");
    }
    let bundle = filtered(&lab, filter(json!([mkdir_rule("SCMP_ACT_KILL_PROCESS")])));
    bundle.args(["mkdir", "/tmp/x"]).run().exits(159);
}

#[test]
fn a_call_that_traps_gets_a_signal_and_one_that_is_logged_works() {
    let lab = Lab::new();
    let bundle = filtered(&lab, filter(json!([mkdir_rule("SCMP_ACT_TRAP")])));
    bundle.sh("ulimit -c 0; mkdir /tmp/x; echo $?").run().prints("159\n");
    for action in ["SCMP_ACT_LOG", "SCMP_ACT_ALLOW"] {
        let bundle = filtered(&lab, filter(json!([mkdir_rule(action)])));
        bundle.sh("mkdir /tmp/x && echo made").run().prints("made\n");
    }
}

#[test]
fn arguments_are_compared_by_every_operator() {
    let lab = Lab::new();
    // kill(2) with a signal number in its second argument; signal 0 only asks.
    for (operator, value, value_two, refused, allowed) in [
        ("SCMP_CMP_EQ", 10, 0, 10, 12),
        ("SCMP_CMP_NE", 12, 0, 10, 12),
        ("SCMP_CMP_LT", 11, 0, 10, 12),
        ("SCMP_CMP_LE", 10, 0, 10, 12),
        ("SCMP_CMP_GT", 11, 0, 12, 10),
        ("SCMP_CMP_GE", 12, 0, 12, 10),
        ("SCMP_CMP_MASKED_EQ", 0b0110, 0b0010, 10, 12),
    ] {
        let rule = json!({
            "names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28,
            "args": [{ "index": 1, "value": value, "valueTwo": value_two, "op": operator }],
        });
        let bundle = filtered(&lab, filter(json!([rule])));
        let script = format!(
            "trap '' USR1 USR2; kill -{allowed} $$ && echo sent; kill -{refused} $$ || echo not sent"
        );
        let ran = bundle.sh(&script).run().ok();
        assert_eq!(ran.stdout, "sent\nnot sent\n", "{operator}: {}", ran.stderr);
    }
}

#[test]
fn several_conditions_of_a_rule_must_all_hold() {
    let lab = Lab::new();
    let rule = json!({
        "names": ["kill"], "action": "SCMP_ACT_ERRNO",
        "args": [
            { "index": 0, "value": 1, "op": "SCMP_CMP_EQ" },
            { "index": 1, "value": 10, "op": "SCMP_CMP_EQ" },
        ],
    });
    let script = "trap '' USR1 USR2; kill -USR2 1 && echo other signal; \
                  sleep 9 & kill -USR1 $! && echo other process; kill -USR1 1 || echo refused";
    filtered(&lab, filter(json!([rule]))).sh(script).run().prints("other signal\nother process\nrefused\n");
}

#[test]
fn the_first_rule_that_matches_does_not_hide_the_others() {
    let lab = Lab::new();
    let rules = json!([
        { "names": ["rmdir", "unlinkat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 16 },
        mkdir_rule("SCMP_ACT_ERRNO"),
    ]);
    let ran = filtered(&lab, filter(rules)).sh("mkdir /tmp/x; rmdir /tmp").run().exits(1);
    assert!(ran.stderr.contains("Operation not permitted"), "{}", ran.stderr);
    assert!(ran.stderr.contains("busy"), "{}", ran.stderr);
}

#[test]
fn unknown_calls_are_passed_over() {
    let lab = Lab::new();
    let rules = json!([{ "names": ["mossify", "mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" }]);
    assert_mkdir_is_refused(filtered(&lab, filter(rules)));
}

#[test]
fn a_filter_without_architectures_holds_for_the_own() {
    let lab = Lab::new();
    let mut seccomp = filter(json!([mkdir_rule("SCMP_ACT_ERRNO")]));
    seccomp.as_object_mut().unwrap().remove("architectures");
    assert_mkdir_is_refused(filtered(&lab, seccomp));
}

#[test]
fn an_unknown_action_operator_or_architecture_is_refused() {
    let lab = Lab::new();
    let mut rule = mkdir_rule("SCMP_ACT_ERRNO");
    rule["args"] = json!([{ "index": 0, "value": 0, "op": "SCMP_CMP_MOSS" }]);
    let operator = filter(json!([rule]));
    let action = filter(json!([mkdir_rule("SCMP_ACT_MOSS")]));
    let mut architecture = filter(json!([]));
    architecture["architectures"] = json!(["SCMP_ARCH_MOSS"]);
    let mut default = filter(json!([]));
    default["defaultAction"] = "SCMP_ACT_MOSS".into();
    for seccomp in [operator, action, architecture, default] {
        let ran = filtered(&lab, seccomp).run().refuses(1, &[]);
        assert!(ran.stderr.contains("MOSS"), "{}", ran.stderr);
        assert!(lab.state_entries().is_empty());
    }
}

#[test]
fn flags_of_a_filter_are_taken_and_unknown_ones_refused() {
    bryo_only!("runc 1.1 supports no flags");
    let lab = Lab::new();
    let mut seccomp = filter(json!([mkdir_rule("SCMP_ACT_ERRNO")]));
    seccomp["flags"] = json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]);
    assert_mkdir_is_refused(filtered(&lab, seccomp.clone()));
    seccomp["flags"] = json!(["SECCOMP_FILTER_FLAG_MOSS"]);
    filtered(&lab, seccomp).run().refuses(1, &["SECCOMP_FILTER_FLAG_MOSS"]);
}

#[test]
fn an_exec_is_under_the_filter_too() {
    let lab = Lab::new();
    let c = filtered(&lab, filter(json!([mkdir_rule("SCMP_ACT_ERRNO")]))).sleeps().detach();
    let ran = c.exec(["mkdir", "/tmp/x"]).exits(1);
    assert!(ran.stderr.contains("Operation not permitted"), "{}", ran.stderr);
    c.remove();
}

#[test]
fn a_filter_works_with_and_without_new_privileges() {
    let lab = Lab::new();
    for no_new_privileges in [true, false] {
        let bundle = filtered(&lab, filter(json!([mkdir_rule("SCMP_ACT_ERRNO")])))
            .with(|c| c["process"]["noNewPrivileges"] = no_new_privileges.into());
        assert_mkdir_is_refused(bundle);
    }
}

#[test]
fn a_strict_filter_does_not_need_to_allow_what_the_runtime_does() {
    let lab = Lab::new();
    // mount, pivot_root, setns and the like happen before the filter.
    let rule = json!({
        "names": ["mount", "pivot_root", "umount2", "setns", "unshare", "sethostname", "setgroups", "setuid",
                  "setresuid", "setresgid", "capset", "prctl", "keyctl"],
        "action": "SCMP_ACT_ERRNO",
    });
    let bundle =
        filtered(&lab, filter(json!([rule]))).with(|c| c["process"]["noNewPrivileges"] = true.into());
    bundle.sh("echo alive").run().prints("alive\n");
}

#[test]
fn the_same_rule_may_be_there_twice() {
    let lab = Lab::new();
    let rules = json!([mkdir_rule("SCMP_ACT_ERRNO"), mkdir_rule("SCMP_ACT_ERRNO")]);
    assert_mkdir_is_refused(filtered(&lab, filter(rules)));
}

#[test]
fn a_value_of_64_bits_is_compared_whole() {
    let lab = Lab::new();
    // lseek with an offset beyond 32 bits.
    let rule = json!({
        "names": ["lseek"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28,
        "args": [{ "index": 1, "value": 0x1_0000_0200_u64, "op": "SCMP_CMP_EQ" }],
    });
    let script = "dd if=/dev/zero of=/tmp/x bs=512 count=1 seek=1 2>/dev/null && echo low; \
                  dd if=/dev/zero of=/tmp/x bs=512 count=1 seek=8388609 2>/dev/null || echo high refused";
    filtered(&lab, filter(json!([rule]))).sh(script).run().prints("low\nhigh refused\n");
}

#[test]
fn a_notify_rule_needs_a_listener() {
    let lab = Lab::new();
    let mut seccomp = filter(json!([mkdir_rule("SCMP_ACT_NOTIFY")]));
    filtered(&lab, seccomp.clone()).run().refuses(1, &["listenerPath"]);
    seccomp["listenerPath"] = lab.dir.join("missing.sock").to_str().unwrap().into();
    let ran = filtered(&lab, seccomp).run().refuses(1, &[]);
    // Where notify is not there, it is refused by name.
    assert!(["missing.sock", "SCMP_ACT_NOTIFY"].iter().any(|w| ran.stderr.contains(w)), "{}", ran.stderr);
    assert!(lab.state_entries().is_empty());
}

/// As crun does.
#[test]
fn annotations_name_the_agent_and_refuse_what_nobody_knows() {
    bryo_only!("runc knows no annotations of crun's");
    let lab = Lab::new();
    let agent = lab.dir.join("agent");
    let _listener = std::os::unix::net::UnixListener::bind(&agent).unwrap();
    let rules = json!([{ "names": ["acct"], "action": "SCMP_ACT_NOTIFY" }]);
    let bundle = filtered(&lab, filter(rules)).sh("echo ran");
    let bundle =
        bundle.with(|c| c["annotations"]["run.oci.seccomp.receiver"] = agent.to_str().unwrap().into());
    bundle.run().prints("ran\n");

    let rules = json!([{ "names": ["mkdir", "mkdri"], "action": "SCMP_ACT_ERRNO" }]);
    let bundle = filtered(&lab, filter(rules)).sh("echo ran");
    bundle.run().prints("ran\n");
    let bundle = bundle.with(|c| c["annotations"]["run.oci.seccomp_fail_unknown_syscall"] = "1".into());
    bundle.run().refuses(1, &["mkdri", "; fix: "]);
    std::fs::remove_file(agent).unwrap();
}
