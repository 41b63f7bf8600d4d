//! A container that nobody runs: what doctor plans and rehearses in the place of somebody's.
//!
//! It is the one of `bryo spec`, and asks for what it can do without only where that is to be looked at. Whatever may
//! go is allowed to, so that the planner says all that is missing, where for a launch it would refuse the first.

use crate::bundle::Bundle;
use crate::host::Facts;
use crate::plan::degrade::{Allowance, Policy};
use crate::plan::step::{Bind, IdMaps, Ids, Layers, Links, Op, Properties, Step, Upper};
use crate::plan::{self, Plan, Request};
use crate::report::Failure;
use crate::spec::{SpecKind, default_spec};
use serde_json::{Value, json};
use std::ffi::CString;
use std::path::PathBuf;

/// What the sample asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Namespaces, ids and mounts.
    Isolation,
    /// The same in a user namespace of its own, for who needs none.
    UserNamespace,
    /// Limits and a network.
    Resources,
}

/// The limits, and the controller of each.
pub const LIMITS: [(&str, &str); 5] = [
    ("cpu", "cpu.max"),
    ("memory", "memory.max"),
    ("pids", "pids.max"),
    ("io", "io.bfq.weight"),
    ("cpuset", "cpuset.cpus"),
];

/// The plan for it.
///
/// # Errors
/// What not even this container can do without.
pub fn plan(kind: Kind, facts: &Facts) -> Result<Plan, Failure> {
    let broken = |error: String| Failure::new("cannot plan a container to look at", error);
    let spec =
        serde_json::to_value(default_spec(&SpecKind::Root, true)).map_err(|e| broken(e.to_string()))?;
    let spec = serde_json::from_value(changed(spec, kind, facts)).map_err(|e| broken(e.to_string()))?;
    let bundle = Bundle { dir: PathBuf::from("/"), spec, remarks: Vec::new() };
    let request = Request {
        id: "doctor".into(),
        degrade: Policy::parse(&allowed(kind)).map_err(broken)?,
        network: (kind == Kind::Resources).then_some(plan::network::Mode::Auto),
        state: PathBuf::from("/"),
        ..Request::default()
    };
    plan::survey(&bundle, facts, &request)?.granted()
}

/// What may go. Of what is rehearsed, the rehearsal itself shows everything that is missing.
fn allowed(kind: Kind) -> String {
    let all: Vec<_> = Allowance::ALL.into_iter().map(Allowance::name).collect();
    match kind {
        Kind::Isolation | Kind::UserNamespace => Allowance::Groups.name().into(),
        Kind::Resources => all.join(","),
    }
}

fn changed(mut spec: Value, kind: Kind, facts: &Facts) -> Value {
    spec["process"]["terminal"] = json!(false);
    spec["process"]["user"]["additionalGids"] = json!([0]);
    let Some(linux) = spec["linux"].as_object_mut() else { return spec };
    for name in ["seccomp", "resources", "maskedPaths", "readonlyPaths"] {
        linux.remove(name);
    }
    let mut namespace = |kind: &str| {
        if let Some(namespaces) = linux.get_mut("namespaces").and_then(Value::as_array_mut) {
            namespaces.push(json!({"type": kind}));
        }
    };
    match kind {
        Kind::Isolation => namespace("time"),
        Kind::UserNamespace => {
            namespace("user");
            for (map, own) in [("uidMappings", facts.euid), ("gidMappings", facts.egid)] {
                linux.insert(map.into(), json!([{"containerID": 0, "hostID": own, "size": 1}]));
            }
        }
        Kind::Resources => {
            let limits = json!({
                "cpu": {"quota": 100_000, "period": 100_000, "cpus": "0"},
                "memory": {"limit": 1 << 30},
                "pids": {"limit": 1000},
                "blockIO": {"weight": 100},
            });
            linux.insert("resources".into(), limits);
        }
    }
    spec
}

/// Where the rehearsal's root is: what lies there is out of its sight.
pub const PLACES: [&str; 5] = ["/tmp", "/run", "/mnt", "/srv", "/var"];

/// Adds what only some containers ask for: an overlay, and a mount with other ids. Takes out the end of the way, which is
/// played last of all.
pub fn add_more(plan: &mut Plan, place: &str) {
    plan.steps.retain(|step| !matches!(step.op, Op::Pivot | Op::RootPropagation { .. } | Op::RootReadOnly));
    let below = |name: &str| CString::new(format!("{place}/{name}")).unwrap_or_default();
    let overlay = Op::Overlay(
        Layers {
            place: below("merged"),
            lower: vec![below("lower")],
            upper: Upper::Memory,
            userxattr: true,
            squash: false,
            nodev: false,
            own_parent: false,
        },
        Vec::new(),
    );
    let bind = Op::Bind(Bind {
        source: below("lower"),
        at: c"/idmapped".into(),
        recursive: false,
        properties: Properties::default(),
        links: Links::default(),
        apart: false,
        ids: Some(Ids {
            maps: IdMaps::Lines { uids: "0 0 1\n".into(), gids: "0 0 1\n".into() },
            recursive: false,
            by_launch: false,
        }),
    });
    plan.steps.extend([overlay, bind].map(Step::from));
}
