//! What a container is given beyond its isolation: a cgroup with limits, and a network. Here the planner knows: a
//! sample that asks for all of it is planned with leave to go without, and says what it would go without.

use super::check::{Check, Scope, Scopes};
use super::children::Tell;
use super::container::{NO_FIX, instead, refused};
use super::sample::{self, Kind, LIMITS};
use crate::cgroup::systemd::Systemd;
use crate::host::cgroup::Hierarchy;
use crate::host::{self, CAP_NET_BIND_SERVICE, Facts, Needs};
use crate::plan::Plan;
use crate::plan::cgroup::Place;
use crate::plan::network::HelperKind;
use crate::report::{Failure, errno_text};
use std::path::Path;

/// The topic.
pub fn look(tell: &mut Tell<'_>) {
    let needs = Needs { subids: true, cgroups: true, network: true, hard_limits: true, ..Needs::default() };
    let facts = match host::read(needs) {
        Ok(facts) => facts,
        Err(errno) => {
            return tell(Check::lacking("caller", "PROBE", format!("capget: {}", errno_text(errno)), NO_FIX));
        }
    };
    match sample::plan(Kind::Resources, &facts) {
        Ok(plan) => {
            // Where a cgroup could be had, a launch without one warns.
            let avoidable = facts.cgroups.hierarchy == Hierarchy::Unified && facts.cgroups.systemd;
            let whom = if avoidable { for_limits() | Scope::Run } else { for_limits() };
            cgroups(&plan, whom, tell);
            network(&plan, &facts, tell);
        }
        Err(failure) => tell(refused("resources", &failure).stopping(Scope::Limits | Scope::Network)),
    }
}

/// What systemd delegates to users unasked.
const USUAL: [&str; 3] = ["cpu", "memory", "pids"];

fn for_limits() -> Scopes {
    Scope::Limits | Scope::Podman | Scope::Docker
}

fn cgroups(plan: &Plan, whom: Scopes, tell: &mut Tell<'_>) {
    let about = |check: Check| check.serving(whom);
    let lack = plan
        .degradations
        .iter()
        .find(|found| found.code.starts_with("CG-") && found.code != "CG-CTRL" && found.code != "CG-DEVICES");
    let Some(cgroup) = &plan.cgroup else {
        let lack = lack.map(|found| {
            let evidence = format!("{}: no limits", found.because);
            Check::lacking("cgroup", found.code.clone(), evidence, found.fix.clone())
        });
        if let Some(lack) = lack {
            let frozen = lack.lack.clone().and_then(|lack| lack.fix);
            tell(about(lack).stopping(Scope::Limits));
            let check =
                Check::lacking("freezer", "CG-FREEZE", "pause needs a cgroup of the container's own", frozen);
            tell(check.serving(Scope::Podman | Scope::Docker));
        }
        return;
    };
    match &cgroup.place {
        Place::Directory(directory) => {
            let parent = directory.path.parent().unwrap_or(Path::new("/"));
            let evidence = format!("may be made in {}", parent.display());
            tell(about(Check::fine("cgroup", evidence)));
        }
        Place::Scope(scope) => {
            let whose = if scope.user { "the user's systemd" } else { "systemd" };
            tell(match Systemd::connect(&scope.bus) {
                Ok(_) => about(Check::fine("cgroup", format!("{whose} answers, and makes scopes"))),
                Err(trouble) => {
                    let fix =
                        "log in with a session (ssh, machinectl shell), or sudo loginctl enable-linger USER";
                    let check = Check::lacking(
                        "cgroup",
                        "CG-NOBUS",
                        format!("{whose} cannot be asked: {trouble}"),
                        Some(fix),
                    );
                    about(check).stopping(Scope::Limits)
                }
            });
        }
    }
    let missing: Vec<_> = plan.degradations.iter().filter(|found| found.code == "CG-CTRL").collect();
    for (controller, _) in LIMITS {
        let named = |text: &str| {
            text.contains(&format!("the {controller} controller"))
                || text.contains(&format!("no {controller} controller"))
        };
        tell(match missing.iter().find(|found| named(&found.because)) {
            Some(found) => {
                let name = format!("{controller} controller");
                let check =
                    Check::lacking(name, found.code.clone(), found.because.clone(), found.fix.clone());
                // The others go to a user's session only where somebody has seen to it, and few limits need them.
                let stops = if USUAL.contains(&controller) { Scope::Limits.into() } else { Scopes::NONE };
                check.serving(for_limits()).stopping(stops)
            }
            None => Check::fine(format!("{controller} controller"), "there")
                .of_kind("controllers")
                .serving(for_limits()),
        });
    }
    tell(Check::fine("freezer", "there").serving(for_limits()));
}

fn network(plan: &Plan, facts: &Facts, tell: &mut Tell<'_>) {
    let about = Scope::Network | Scope::Nested | Scope::Podman | Scope::Docker;
    let lack = plan
        .degradations
        .iter()
        .find(|found| found.code.starts_with("NET-") && found.code != "NET-V6" && found.code != "NET-PING");
    tell(match (&plan.network.helper, lack) {
        (Some(helper), _) => {
            let name = match helper.kind {
                HelperKind::Pasta => "pasta",
                HelperKind::Slirp4netns => "slirp4netns",
            };
            let evidence = format!("{name} at {}; /dev/net/tun may be opened", helper.program.display());
            Check::fine("network", evidence).serving(about)
        }
        (None, Some(found)) => instead("network", found).serving(about).stopping(Scope::Network),
        (None, None) => {
            let failure = Failure::new("", "the planner found no helper");
            refused("network", &failure).serving(about).stopping(Scope::Network)
        }
    });
    for found in plan.degradations.iter().filter(|found| found.code == "NET-V6") {
        tell(instead("ipv6", found).serving(about));
    }
    let free = facts.network.unprivileged_port_start;
    let ports = if free == 0 || facts.capable(CAP_NET_BIND_SERVICE) {
        "any may be published".to_string()
    } else {
        format!("those from {free} on may be published (net.ipv4.ip_unprivileged_port_start)")
    };
    tell(Check::fine("ports", ports).serving(about));
}
