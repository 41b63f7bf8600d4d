//! `explain`: what `run` would do, told before it is done.
//!
//! It goes the road of `run` up to the plan ([`create::survey`]), and looks at what `run` would come across after it,
//! as far as looking is enough. Nothing is started and nothing written: no process, no cgroup, no state, not even the
//! filter that is compiled. What only the kernel knows, it does not know either; those steps are shown with what would
//! be done instead.

use super::create::{self, Manner, Surveyed};
use super::print;
use crate::cli::{Create, Explain};
use crate::host::namespaces as host_namespaces;
use crate::launch::layers::Kept;
use crate::launch::{console, foreground, network};
use crate::plan::Plan;
use crate::plan::cgroup::Manager;
use crate::plan::degrade::Policy;
use crate::plan::describe;
use crate::plan::survey::{Survey, Topic};
use crate::report::Failure;
use crate::seccomp::Filter;
use crate::state::store::{self, Store};
use nix::sched::CloneFlags;
use std::path::Path;

/// `bryo explain`.
pub fn explain(
    store: &Store,
    flags: &Explain,
    degrade: Policy,
    cgroups: Option<Manager>,
) -> Result<u8, Failure> {
    let mut create = flags.create.clone();
    let named = !create.id.is_empty();
    if !named {
        create.id = name_of(&create.bundle);
    }
    create::guard_fds(create::passed_on(create.preserve_fds), &create.id)?;
    let signals = foreground::current_mask()?;
    let manner = Manner { by_start: false, detached: flags.detach, signals, degrade, cgroups };
    let Surveyed { bundle, mut survey } = create::survey(store, &create, &manner)?;
    let filter = foresee(&mut survey, store, &create, flags.detach, named);
    survey.plan.remarks.splice(0..0, bundle.remarks);
    let description = describe::survey(&survey, &bundle.dir, filter.as_ref());
    let text = if flags.json {
        serde_json::to_string_pretty(description.json()).map(|text| text + "\n").map_err(|error| {
            Failure::new(format!("cannot explain container {}", create.id), error.to_string())
        })?
    } else {
        description.text()
    };
    let code = print(&text);
    survey.granted().map(|_| code)
}

/// What a container is called that nobody has named: as the directory of its bundle.
fn name_of(bundle: &Path) -> String {
    let directory = std::path::absolute(bundle).unwrap_or_default();
    let name = directory.file_name().map(|name| name.to_string_lossy().into_owned());
    name.filter(|name| store::check_id(name).is_ok()).unwrap_or_else(|| "container".into())
}

/// What the road of `run` has after the plan, in its order. Returns the filter, if there is one.
fn foresee(survey: &mut Survey, store: &Store, flags: &Create, detach: bool, named: bool) -> Option<Filter> {
    let Survey { plan, refused } = survey;
    let act = format!("cannot create container {}", plan.id);
    let mut see = |topic, seen: Result<(), Failure>| refused.unless(topic, seen, || ());
    see(Topic::Outcome, console::check(plan.process.terminal, detach, flags.console_socket.is_some(), &act));
    let mut filter = None;
    see(Topic::Seccomp, create::compile(plan, None).map(|compiled| filter = compiled));
    see(Topic::Outcome, Kept::check(plan));
    if named {
        see(Topic::Outcome, store.check_free(&plan.id));
    }
    if let Some(helper) = &plan.network.helper {
        see(Topic::Network, network::check_free(helper, &plan.id));
    }
    see(Topic::Outcome, user_namespace(plan));
    filter
}

/// Whether it is known that no user namespace is to be had here.
fn user_namespace(plan: &Plan) -> Result<(), Failure> {
    if !plan.namespaces.is_new(CloneFlags::CLONE_NEWUSER) {
        return Ok(());
    }
    let seen = host_namespaces::obstacles();
    let Some(errno) = seen.certain(plan.launch_reaches_more) else { return Ok(()) };
    Err(host_namespaces::explain(format!("cannot start container {}", plan.id), errno, &seen))
}
