//! `doctor`: what this host lets the caller do, found by doing it, before anything runs.
//!
//! ```text
//!     verbs::doctor -> examine -+- container      a rehearsal: init goes its way without a container
//!                               +- resources      the planner's word on cgroups and the network
//!                               +- surroundings   directories, security modules, what is installed
//! ```
//!
//! Each topic is looked at by a child (see [`children`]), and tells checks. A check has a code where something is
//! missing, which is the code that `run` would refuse or warn with: the facts, the planner, init and the words are
//! the same. Nothing is decided here that a launch decides otherwise.
//!
//! Nothing is left: what is made is made in memory, in namespaces that end with their children.

pub mod apparmor;
mod check;
mod children;
mod container;
mod outer;
mod report;
mod resources;
mod sample;
mod surroundings;

use check::Finding;
pub use check::Scope;
pub use report::{Report, Screen};

use children::Topic;
use std::path::Path;
use std::time::Duration;

/// When whoever still looks is not waited for any longer. It takes a tenth of a second, unless something hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks at everything. `state` is the directory that was named for the states of containers.
pub fn examine(scope: Option<Scope>, state: Option<&Path>) -> Report {
    let around = crate::host::outer::read();
    let topics = [
        Topic { name: "container", look: &|tell| container::look(&around, tell) },
        Topic { name: "resources", look: &|tell| resources::look(tell) },
        Topic { name: "surroundings", look: &|tell| surroundings::look(state, &around, tell) },
    ];
    let checks = children::look_at(&topics, PATIENCE);
    let mut findings: Vec<Finding> = Vec::new();
    for finding in checks.iter().filter_map(|check| check.finding(scope)) {
        // What two topics ran into is one thing.
        let same = |other: &Finding| {
            finding.lacks() && (&other.code, &other.evidence) == (&finding.code, &finding.evidence)
        };
        if !findings.iter().any(same) {
            findings.push(finding);
        }
    }
    let settings = (scope == Some(Scope::Nested)).then(|| outer::settings(&findings, &around));
    Report { findings, settings }
}
