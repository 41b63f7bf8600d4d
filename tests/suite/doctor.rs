//! `doctor`: what it says of this host and of hostile ones, that `run` says the same, and that nothing is left of its
//! looking.

use std::fs;
use std::path::Path;

use libseccomp::{ScmpAction, ScmpFilterContext, ScmpSyscall};
use nix::libc;
use nix::unistd::{getegid, geteuid};
use serde_json::{Value, json};

use crate::hosts::{Fails, Host, below_a_filter, map_to_root, root_after, user_after};
use crate::lab::{Bundle, Call, Lab, NONE, Ran, bryo_only, plain_user_only};
use crate::pty::terminal;

/// A call of doctor.
fn doctor<'lab>(lab: &'lab Lab, options: &[&str]) -> Call<'lab> {
    lab.call(["doctor"]).args(options)
}

/// What it found: the document, whose status is that of its exit code.
fn found(ran: Ran) -> Value {
    let code = ran.code();
    assert_eq!(ran.stderr, "");
    let document = ran.json();
    let status = ["ok", "degraded", "blocked"][code as usize];
    assert_eq!(document["status"], status, "{document:#}");
    document
}

/// The findings that have a code.
fn problems(document: &Value) -> Vec<&Value> {
    let findings = document["findings"].as_array().unwrap();
    findings.iter().filter(|finding| !finding["code"].is_null()).collect()
}

/// The one finding with this code.
fn problem<'a>(document: &'a Value, code: &str) -> &'a Value {
    let with_code: Vec<_> =
        problems(document).into_iter().filter(|finding| finding["code"] == code).collect();
    assert_eq!(with_code.len(), 1, "{code} in {document:#}");
    with_code[0]
}

fn is_fine(document: &Value, what: &str) -> bool {
    let mut findings = document["findings"].as_array().unwrap().iter();
    findings.any(|finding| finding["what"] == what && finding["status"] == "ok")
}

fn json_of(call: Call<'_>) -> Value {
    found(call.args(["--json"]).done())
}

/// A run in the foreground that is still to be changed.
fn run<'lab>(bundle: &Bundle<'lab>) -> Call<'lab> {
    bundle.call("run", NONE)
}

/// On this host, doctor calls it blocked with this code, and run refuses with it.
fn both_refuse<'lab>(lab: &'lab Lab, bundle: &Bundle<'lab>, host: impl Host<'lab>, code: &str) -> Value {
    let document = json_of(host(doctor(lab, &["--for", "run"])));
    let finding = problem(&document, code).clone();
    assert_eq!(finding["status"], "blocked", "{finding:#}");
    assert_eq!(document["status"], "blocked");
    let ran = host(run(bundle)).done().refuses(1, &[code, "; fix: "]);
    // In the same words.
    let fix = finding["fix"].as_str().unwrap();
    assert!(ran.stderr.contains(fix), "{fix} in {}", ran.stderr);
    document
}

/// A plain user who may make no user namespace.
fn no_user_namespaces(call: Call<'_>) -> Call<'_> {
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --ambient-caps=-all --inh-caps=-all -- \"$@\"";
    let (uid, gid) = (geteuid().to_string(), getegid().to_string());
    let namespace = ["unshare", "--user", "--map-user", &uid, "--map-group", &gid, "--keep-caps", "--"];
    call.under(["sh", "-c", script, "sh"]).under(namespace)
}

/// Without any program to be found.
fn nothing_installed(call: Call<'_>) -> Call<'_> {
    call.under(["env", "PATH=/nowhere"])
}

#[test]
fn on_this_host_a_container_runs_and_doctor_says_so() {
    bryo_only!("runc has no doctor");
    let lab = Lab::new();
    let document = json_of(doctor(&lab, &["--for", "run"]));
    assert_ne!(document["status"], "blocked", "{document:#}");
    for what in ["proc", "sysfs", "tmpfs", "devpts", "mount namespace", "root file system", "seccomp"] {
        assert!(is_fine(&document, what), "{what} in {document:#}");
    }
    lab.bundle().run().ok();
}

#[test]
fn a_finding_has_all_its_fields_and_says_everything_on_one_line() {
    bryo_only!("runc has no doctor");
    let lab = Lab::new();
    let document = json_of(nothing_installed(doctor(&lab, &[])));
    assert!(document["version"].is_string());
    for finding in document["findings"].as_array().unwrap() {
        let mut keys: Vec<_> = finding.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["code", "evidence", "fix", "needs_root", "status", "what"]);
        assert_eq!(finding["code"].is_null(), finding["status"] == "ok", "{finding}");
        for text in ["what", "evidence"] {
            let text = finding[text].as_str().unwrap();
            assert!(!text.is_empty() && !text.contains('\n'), "{finding}");
        }
        assert!(finding["status"] == "ok" || finding["fix"].is_string(), "{finding}");
    }
    // Nobody's business but who asks for everything.
    assert!(
        problems(&json_of(doctor(&lab, &["--for", "run"]))).iter().all(|finding| finding["code"] != "CRIU")
    );
    // Where it cannot be done, what runs is none the worse for it.
    assert!(is_fine(&document, "checkpoint"), "{document}");
    let evidence = |finding: &Value| finding["evidence"].as_str().unwrap().to_owned();
    let said: Vec<_> = document["findings"].as_array().unwrap().iter().map(evidence).collect();
    assert!(said.iter().any(|text| text.contains(": CRIU: ") && text.contains("; fix: ")), "{said:?}");
}

#[test]
fn the_exit_code_is_that_of_the_worst() {
    bryo_only!("runc has no doctor");
    plain_user_only!("root needs no helper");
    let lab = Lab::new();
    nothing_installed(doctor(&lab, &["--for", "run"])).done().exits(1);
    no_user_namespaces(doctor(&lab, &["--for", "run"])).done().exits(2);
}

#[test]
fn a_limit_on_user_namespaces_blocks_both() {
    bryo_only!("runc has no doctor");
    plain_user_only!("root needs no user namespace, and is told that much");
    let lab = Lab::new();
    let bundle = lab.bundle();
    both_refuse(&lab, &bundle, no_user_namespaces, "NS-LIMIT");
}

#[test]
fn a_masked_proc_blocks_both() {
    bryo_only!("runc has no doctor");
    let lab = Lab::new();
    let bundle = lab.bundle();
    let document = both_refuse(&lab, &bundle, user_after("mount -t tmpfs none /proc/fs"), "PROC-MASKED");
    // And nothing else is in the way.
    assert!(is_fine(&document, "sysfs") && is_fine(&document, "root file system"), "{document:#}");
}

#[test]
fn who_needs_no_user_namespace_learns_what_is_missing_in_one() {
    bryo_only!("runc has no doctor");
    plain_user_only!("it is about a root made by unshare itself");
    let lab = Lab::new();
    let host = root_after("mount -t tmpfs none /proc/fs");
    let document = json_of(host(doctor(&lab, &["--for", "run"])));
    let finding = problem(&document, "PROC-MASKED");
    assert_eq!(
        (&finding["what"], &finding["status"]),
        (&json!("proc in a user namespace"), &json!("degraded"))
    );
    assert!(is_fine(&document, "proc"));
    let with = lab.bundle().with(map_to_root);
    host(run(&with)).done().refuses(1, &["PROC-MASKED"]);
    let without = lab.bundle().without_namespace("user").with(|c| {
        c["linux"].as_object_mut().unwrap().remove("uidMappings");
        c["linux"].as_object_mut().unwrap().remove("gidMappings");
    });
    host(run(&without)).done().ok();
}

#[test]
fn everything_that_is_missing_comes_at_once() {
    bryo_only!("runc has no doctor");
    plain_user_only!("root needs no helper, and has its directories elsewhere");
    let lab = Lab::new();
    let host = user_after(
        "mount -t tmpfs none /proc/fs; mount -t tmpfs none /dev; echo 0 > /proc/sys/user/max_ipc_namespaces",
    );
    let call = host(doctor(&lab, &[]).under(["setpriv", "--no-new-privs", "--"]));
    let document = json_of(call);
    for code in ["ID-NNP", "NS-LIMIT", "PROC-MASKED", "NET-TUN"] {
        problem(&document, code);
    }
    assert_eq!(problem(&document, "NS-LIMIT")["what"], "ipc namespace");
}

#[test]
fn a_filter_that_forbids_user_namespaces_is_named_by_both() {
    bryo_only!("runc has no doctor");
    plain_user_only!("root needs no user namespace");
    const NEWUSER: u64 = libc::CLONE_NEWUSER as u64;
    below_a_filter(
        &[
            Fails("clone3", 0, libc::ENOSYS),
            Fails("clone", NEWUSER, libc::EPERM),
            Fails("unshare", NEWUSER, libc::EPERM),
        ],
        || {
            let lab = Lab::new();
            let bundle = lab.bundle();
            both_refuse(&lab, &bundle, |call| call, "NS-SECCOMP");
        },
    );
}

#[test]
fn mounts_that_a_filter_forbids_are_named_and_the_rest_is_still_looked_at() {
    bryo_only!("runc has no doctor");
    below_a_filter(
        &[
            Fails("fsopen", 0, libc::ENOSYS),
            Fails("open_tree", 0, libc::ENOSYS),
            Fails("keyctl", 0, libc::EPERM),
        ],
        || {
            let lab = Lab::new();
            let document = json_of(doctor(&lab, &["--for", "run"]));
            let codes: Vec<_> = problems(&document).iter().map(|finding| finding["code"].clone()).collect();
            assert!(codes.contains(&json!("MNT-API")) && codes.contains(&json!("KEYRING")), "{document:#}");
            assert_eq!(problem(&document, "KEYRING")["status"], "degraded");
            lab.bundle().run().refuses(1, &["MNT-API", "; fix: "]);
        },
    );
}

#[test]
fn a_host_that_forbids_nearly_everything_is_told_of_and_hangs_nobody() {
    bryo_only!("runc has no doctor");
    below_a_filter(
        &[
            Fails("clone3", 0, libc::ENOSYS),
            Fails("clone", libc::CLONE_NEWUSER as u64, libc::EPERM),
            Fails("clone", libc::CLONE_NEWPID as u64, libc::EPERM),
            Fails("unshare", 0, libc::EPERM),
            Fails("setns", 0, libc::EPERM),
            Fails("mount", 0, libc::EPERM),
            Fails("fsopen", 0, libc::EPERM),
            Fails("keyctl", 0, libc::EPERM),
            Fails("socket", 0, libc::EPERM),
            Fails("statfs", 0, libc::EPERM),
            Fails("prctl", 0, libc::EPERM),
            Fails("pidfd_open", 0, libc::EPERM),
        ],
        || {
            let lab = Lab::new();
            let ran = doctor(&lab, &[]).done().exits(2);
            assert!(ran.stdout.contains("blocked"), "{}", ran.stdout);
            assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
        },
    );
}

/// Run this below a filter that kills whoever makes one of these calls.
fn below_a_killing_filter(calls: &'static [&'static str], test: fn()) {
    let filtered = std::thread::spawn(move || {
        let mut filter = ScmpFilterContext::new(ScmpAction::Allow).unwrap();
        for call in calls {
            filter.add_rule(ScmpAction::KillProcess, ScmpSyscall::from_name(call).unwrap()).unwrap();
        }
        filter.load().unwrap();
        test();
    });
    if let Err(panic) = filtered.join() {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn a_filter_that_kills_ends_one_probe_and_not_the_others() {
    bryo_only!("runc has no doctor");
    below_a_killing_filter(&["keyctl", "pivot_root", "capget"], || {
        let lab = Lab::new();
        let ran = doctor(&lab, &["--for", "run"]).done();
        // Both topics that read capabilities are gone; what is looked at without is told.
        let document = found(doctor(&lab, &["--for", "run", "--json"]).done());
        assert_eq!(ran.code(), 2, "{}", ran.stdout);
        assert!(ran.stdout.contains("PROBE: an outer seccomp filter kills"), "{}", ran.stdout);
        assert!(is_fine(&document, "state directory"), "{document:#}");
    });
    below_a_killing_filter(&["keyctl", "pivot_root"], || {
        let lab = Lab::new();
        let document = json_of(doctor(&lab, &["--for", "run"]));
        let killed: Vec<_> = problems(&document)
            .into_iter()
            .filter(|finding| finding["evidence"].as_str().unwrap().contains("an outer seccomp filter kills"))
            .map(|finding| (finding["what"].clone(), finding["status"].clone()))
            .collect();
        let blocked = |what| (json!(what), json!("blocked"));
        assert_eq!(killed, [blocked("session keyring"), blocked("root file system")], "{document:#}");
        assert!(is_fine(&document, "proc") && is_fine(&document, "seccomp"), "{document:#}");
    });
}

#[test]
fn what_never_answers_is_not_waited_for_and_ends_with_doctor() {
    bryo_only!("runc has no doctor");
    let lab = Lab::new();
    let dir = lab.dir.join("bin");
    fs::create_dir(&dir).unwrap();
    fs::rename(lab.script("getsubids", "exec sleep 1000"), dir.join("getsubids")).unwrap();
    let path = format!("PATH={}:/usr/bin:/bin", dir.display());
    // Of a user whom nobody knows, who has no ranges in the files.
    let nobody = ["unshare", "--user", "--map-user", "4242", "--map-group", "4242", "--"];
    let document = json_of(doctor(&lab, &[]).under(["env", &path]).under(nobody));
    let unseen = problems(&document).into_iter().filter(|finding| finding["code"] == "PROBE");
    let unseen: Vec<_> = unseen.map(|finding| finding["what"].clone()).collect();
    assert_eq!(unseen, ["container", "resources"], "{document:#}");
    assert!(is_fine(&document, "state directory"));
    assert_eq!(document["status"], "blocked");
    // That nothing sleeps on, the lab finds out.
}

#[test]
fn without_proc_without_dev_and_without_a_place_it_says_so() {
    bryo_only!("runc has no doctor");
    plain_user_only!("it is about a root made by unshare itself");
    let lab = Lab::new();
    for commands in ["mount -t tmpfs none /proc", "mount -t tmpfs none /dev"] {
        let ran = root_after(commands)(doctor(&lab, &[])).done();
        assert!([1, 2].contains(&ran.code()) && ran.stderr.is_empty(), "{commands}: {ran:?}");
    }
    let ran = root_after("mount -t tmpfs none /proc")(doctor(&lab, &["--for", "run"])).done().exits(2);
    assert!(ran.stdout.contains("ID-NONE: ") && ran.stdout.contains("/proc"), "{}", ran.stdout);
    let bundle = lab.bundle().with(map_to_root);
    root_after("mount -t tmpfs none /proc")(run(&bundle)).done().refuses(1, &["ID-NONE", "; fix: "]);
}

#[test]
fn nothing_is_left_of_looking() {
    bryo_only!("runc has no doctor");
    let lab = Lab::new();
    let tree = |dir: &str| -> Vec<_> {
        fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .filter(|name| {
                // Others are at work there, too.
                name.to_string_lossy().starts_with("bryo")
                    && !name.to_string_lossy().starts_with("bryo-suite")
            })
            .collect()
    };
    let before = (tree("/tmp"), fs::read_to_string("/proc/self/mountinfo").unwrap());
    json_of(doctor(&lab, &[]));
    json_of(lab.bare_call(["doctor", "--for", "run"]).env_remove("XDG_RUNTIME_DIR"));
    assert_eq!(before, (tree("/tmp"), fs::read_to_string("/proc/self/mountinfo").unwrap()));
    assert!(!lab.root().exists(), "it made the state directory");
    assert_eq!(fs::read_dir(lab.dir.join("run")).unwrap().count(), 0);
    // What is left of processes, cgroups and units, the lab finds out.
}

#[test]
fn it_looks_the_same_as_text_as_in_json() {
    bryo_only!("runc has no doctor");
    let lab = Lab::new();
    let text = nothing_installed(doctor(&lab, &["--for", "podman"])).done().stdout;
    assert!(!text.contains('\x1b'), "{text}");
    let document = json_of(nothing_installed(doctor(&lab, &["--for", "podman"])));
    for finding in problems(&document) {
        let line = format!(
            "{}: {}; fix{}: {}",
            finding["code"].as_str().unwrap(),
            finding["evidence"].as_str().unwrap(),
            if finding["needs_root"] == true { " (as root)" } else { "" },
            finding["fix"].as_str().unwrap(),
        );
        let status = finding["status"].as_str().unwrap();
        assert!(text.lines().any(|row| row.starts_with(status) && row.ends_with(&line)), "{line} in {text}");
    }
}

#[test]
fn on_a_terminal_it_is_coloured_and_wrapped_unless_nobody_wants_colour() {
    bryo_only!("runc has no doctor");
    let lab = Lab::new();
    let seen = |change: &dyn Fn(Call<'_>) -> Call<'_>| {
        let (master, slave) = terminal(24, 72);
        let call = change(nothing_installed(lab.call(["doctor"])).env("TERM", "xterm"));
        let running = call.on_terminal(&slave).spawn();
        drop(slave);
        let text = master.read_to_end();
        drop(running.wait());
        text
    };
    let coloured = seen(&|call| call);
    assert!(coloured.contains("\x1b[32mok\x1b[0m"), "{coloured}");
    let plain = seen(&|call| call.env("NO_COLOR", "1"));
    assert!(!plain.contains('\x1b'), "{plain}");
    let longest = plain.lines().map(|line| line.trim_end().chars().count()).max();
    assert!(longest.is_some_and(|longest| longest <= 72), "{longest:?} in {plain}");
    assert!(!seen(&|call| call.env("TERM", "dumb")).contains('\x1b'));
}

#[test]
fn the_apparmor_profile_names_the_file_that_runs() {
    bryo_only!("runc has no doctor");
    let lab = Lab::new();
    let link = lab.dir.join("link");
    std::os::unix::fs::symlink(&lab.runtime, &link).unwrap();
    let real = fs::canonicalize(&lab.runtime).unwrap();
    let expected =
        format!("abi <abi/4.0>,\nprofile bryo \"{}\" flags=(unconfined) {{\n  userns,\n}}\n", real.display());
    lab.program(&link).args(["doctor", "--apparmor-profile"]).done().prints(&expected);
    doctor(&lab, &["--apparmor-profile", "--json"]).done().exits(1);
}

/// AppArmor's own parser takes it, for whatever path. It has to know `userns`, as of 4.0.
#[test]
fn the_apparmor_profile_is_one_to_apparmors_parser() {
    bryo_only!("runc has no doctor");
    let lab = Lab::new();
    let parser =
        ["/usr/sbin/apparmor_parser", "/sbin/apparmor_parser"].into_iter().find(|p| Path::new(p).exists());
    let version = parser.map(|parser| lab.program(parser).args(["--version"]).done().ok().stdout);
    let number =
        version.as_deref().and_then(|text| text.lines().next()?.split(' ').next_back()?.split('.').next());
    if number.and_then(|major| major.parse::<u32>().ok()).is_none_or(|major| major < 4) {
        let found = number.map_or("none".to_string(), |major| format!("version {major}"));
        return crate::lab::note(&format!(
            "apparmor_parser 4.0 or newer is not here ({found}): no profile was parsed"
        ));
    }
    for name in ["bryo", "a moss", "a*b?[c]{d,e}^@", "\"quoted\"", "back\\slash"] {
        let program = lab.dir.join(name);
        fs::copy(&lab.runtime, &program).unwrap();
        let profile = lab.program(&program).args(["doctor", "--apparmor-profile"]).done().ok().stdout;
        let profile = lab.file("profile", profile);
        let call = lab.program(parser.unwrap()).args(["--skip-kernel-load", "--skip-cache", "--names"]);
        call.args([&profile]).done().ok();
        fs::remove_file(program).unwrap();
    }
}

#[test]
fn for_an_outer_container_it_ends_with_what_to_start_it_with() {
    bryo_only!("runc has no doctor");
    let lab = Lab::new();
    let host = user_after("mount -t tmpfs none /proc/fs");
    let call = host(doctor(&lab, &["--for", "nested"]).env("container", "podman"));
    let text = call.done().exits(2).stdout;
    let line = |start: &str| {
        text.lines().find(|line| line.trim_start().starts_with(start)).unwrap_or_else(|| panic!("{text}"))
    };
    assert!(line("docker run").contains("--security-opt systempaths=unconfined"), "{text}");
    assert!(line("podman run").contains("--security-opt unmask=ALL"), "{text}");
    assert!(text.contains("procMount: Unmasked") && text.contains("hostUsers: false"), "{text}");
    // No more than what is missing.
    assert!(!text.contains("seccomp=unconfined"), "{text}");
    let document = json_of(host(doctor(&lab, &["--for", "nested"]).env("container", "podman")));
    assert_eq!(document["outer"]["podman"], line("podman run").trim());
    assert!(json_of(doctor(&lab, &["--for", "run"]))["outer"].is_null());
}
