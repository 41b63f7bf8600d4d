//! Hostile hosts: each lacks something, is made for the test, and is gone after it.
//!
//! What is asserted of each: a refusal is one line with its code and a way out, exit code 1, and nothing is left; a
//! degradation is one warning line with its code and a way out, and an entry of `degraded` in the state. What is
//! weaker is refused where the caller is strict, and what may go by its name is refused without that name. The codes
//! are those of `bryo help codes`.
//!
//! No machine of ours has AppArmor or a kernel without user namespaces: those are told apart by recorded facts, in
//! the unit tests of `host::namespaces` and `launch::explain`, and in the golden plans.

mod cgroups;
mod ids;
mod mounts;
mod namespaces;
mod nested;
mod network;
mod proc;
mod process;
mod state;

use libseccomp::{ScmpAction, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use nix::unistd::{getegid, geteuid};
use serde_json::{Value, json};

use crate::lab::{Bundle, Call, Lab, NONE, Ran, is_peer};

/// A host: how a call of the runtime is started.
pub trait Host<'lab>: Fn(Call<'lab>) -> Call<'lab> {}

impl<'lab, F: Fn(Call<'lab>) -> Call<'lab>> Host<'lab> for F {}

/// This machine as it is.
pub fn as_it_is(call: Call<'_>) -> Call<'_> {
    call
}

/// The caller as root of a user namespace with this one id, after these commands in a mount namespace of its own.
/// Bundles for it are changed by [`map_to_root`].
pub fn root_after<'lab>(commands: &str) -> impl Host<'lab> + use<'lab> {
    let script = format!("set -e\n{commands}\nexec \"$@\"");
    move |call| {
        let namespaces = ["unshare", "--user", "--map-root-user", "--mount", "--"];
        call.under(["sh", "-c", &script, "sh"]).under(namespaces)
    }
}

/// The same, and then the caller as the plain user that it is: mounts take a root, and what is made with them is for
/// somebody who is none.
pub fn user_after<'lab>(commands: &str) -> impl Host<'lab> + use<'lab> {
    let (uid, gid) = (geteuid().to_string(), getegid().to_string());
    let root = root_after(commands);
    move |call| {
        let again = ["unshare", "--user", "--map-user", &uid, "--map-group", &gid, "--"];
        root(call.under(again))
    }
}

/// As root of somebody's user namespace, the one id outside is 0.
pub fn map_to_root(config: &mut Value) {
    for key in ["uidMappings", "gidMappings"] {
        config["linux"][key] = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
    }
}

/// A rule of a filter around the runtime: the call of this name fails with this errno, where its first argument has
/// these bits, if any.
pub struct Fails(pub &'static str, pub u64, pub i32);

/// Run this below a filter, as an outer container has one. Filters are a thread's own, and whatever it starts has
/// them too.
pub fn below_a_filter(rules: &'static [Fails], test: fn()) {
    let filtered = std::thread::spawn(move || {
        let mut filter = ScmpFilterContext::new(ScmpAction::Allow).unwrap();
        for Fails(call, bits, errno) in rules {
            let call = ScmpSyscall::from_name(call).unwrap();
            let action = ScmpAction::Errno(*errno);
            if *bits == 0 {
                filter.add_rule(action, call).unwrap();
            } else {
                let has = ScmpArgCompare::new(0, ScmpCompareOp::MaskedEqual(*bits), *bits);
                filter.add_rule_conditional(action, call, &[has]).unwrap();
            }
        }
        filter.load().unwrap();
        test();
    });
    if let Err(panic) = filtered.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Refused on one line, with this code, these words and a way out, and nothing is left.
#[track_caller]
pub fn refused(lab: &Lab, ran: Ran, code: &str, words: &[&str]) {
    let ran = ran.refuses(1, &[&format!(": {code}: "), "; fix: "]).refuses(1, words);
    let entries: Vec<_> = lab.state_entries().into_iter().filter(|e| e != "seccomp:cache").collect();
    assert!(entries.is_empty() && lab.processes().is_empty(), "{entries:?} after {ran:?}");
}

/// The entry of this code in `degraded` of the state of a container that is created on this host.
#[track_caller]
fn entry<'lab>(bundle: &Bundle<'lab>, call: impl FnOnce(Call<'lab>) -> Call<'lab>, code: &str) -> Value {
    let id = bundle.lab.id();
    call(bundle.named_call("create", &id)).done().ok();
    let state = bundle.lab.call(["state", &id]).done().ok().json();
    bundle.lab.call(["delete", "--force", &id]).done().ok();
    let found = state["degraded"].as_array().into_iter().flatten().find(|entry| entry["code"] == code);
    found.unwrap_or_else(|| panic!("no {code} in {state}")).clone()
}

/// It ran, and said in one warning line with this code what it did without, and how not to.
#[track_caller]
fn warned(ran: Ran, stdout: &str, code: &str) {
    let ran = ran.prints(stdout);
    let lines: Vec<_> = ran.stderr.lines().filter(|line| line.contains(code)).collect();
    let [line] = lines[..] else { panic!("one line with {code}: {}", ran.stderr) };
    assert!(line.starts_with(&format!("bryo: warning: {code}: ")) && line.contains("; fix: "), "{line}");
}

/// Class A: the same by another road, which `degraded` tells and nobody is warned of.
#[track_caller]
pub fn differs<'lab>(bundle: &Bundle<'lab>, host: impl Host<'lab>, stdout: &str, code: &str) {
    let ran = host(bundle.call("run", NONE)).done().prints(stdout);
    assert!(!ran.stderr.contains(code), "{}", ran.stderr);
    assert_eq!(entry(bundle, &host, code)["class"], "same");
}

/// Class B: weaker means, unless the caller is strict.
#[track_caller]
pub fn weakens<'lab>(bundle: &Bundle<'lab>, host: impl Host<'lab>, stdout: &str, code: &str) {
    assert!(!is_peer());
    warned(host(bundle.call("run", NONE)).done(), stdout, code);
    let entry = entry(bundle, &host, code);
    assert_eq!(entry["class"], "weaker");
    for key in ["wanted", "got", "because", "fix"] {
        assert!(entry[key].is_string(), "no {key} in {entry}");
    }
    let strict = host(bundle.call("run", NONE)).env("BRYO_DEGRADE", "strict").done();
    refused(bundle.lab, strict, code, &["degradations are refused", "--degrade=auto"]);
}

/// Class C that the caller may let go by this name.
#[track_caller]
pub fn may_go<'lab>(bundle: &Bundle<'lab>, host: impl Host<'lab>, name: &str, stdout: &str, code: &str) {
    assert!(!is_peer());
    let way_out = format!("or do without with --degrade={name}");
    let call = || host(bundle.call("run", NONE));
    refused(bundle.lab, call().done(), code, &[&way_out]);
    warned(call().env("BRYO_DEGRADE", name).done(), stdout, code);
    warned(call().env("BRYO_DEGRADE", format!("strict,{name}")).done(), stdout, code);
    let entry = entry(bundle, |call| host(call.env("BRYO_DEGRADE", name)), code);
    assert_eq!(entry["class"], "allowed");
}
