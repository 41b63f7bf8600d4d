//! A plan with what stands in its way.
//!
//! Whoever wants a container is told of the first thing that cannot be granted, and no more. Whoever asks beforehand
//! wants to know all of them, and what would be done beside. So the planner goes on where a topic is refused, with
//! the least that the topics after it need; what a refused topic has in the plan means nothing, and there is no way
//! to such a plan but by what it says of itself: [`Survey::granted`] has it only where nothing was refused.

use super::Plan;
use crate::report::Failure;

/// A part of a plan that is granted or refused as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// The configuration as a whole.
    Configuration,
    Namespaces,
    Ids,
    Cgroup,
    Network,
    /// What init does: the root file system and its mounts.
    Steps,
    Process,
    Seccomp,
    Hooks,
    /// What is found once all is planned, such as a degradation that the caller refuses.
    Outcome,
}

/// What is refused, in the order in which it is found.
#[derive(Debug, Default)]
pub struct Refused(Vec<(Topic, Failure)>);

impl Refused {
    /// What was decided of a topic, or what the rest of the plan goes on with.
    pub fn unless<T>(&mut self, topic: Topic, decided: Result<T, Failure>, else_: impl FnOnce() -> T) -> T {
        decided.unwrap_or_else(|failure| {
            self.add(topic, failure);
            else_()
        })
    }

    /// One more.
    pub fn add(&mut self, topic: Topic, failure: Failure) {
        self.0.push((topic, failure));
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a topic is among them.
    pub fn has(&self, topic: Topic) -> bool {
        self.of(topic).is_some()
    }

    /// Why a topic is, if it is.
    pub fn of(&self, topic: Topic) -> Option<&Failure> {
        self.0.iter().find(|(refused, _)| *refused == topic).map(|(_, failure)| failure)
    }

    /// Why, the first one first.
    pub fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.0.iter().map(|(_, failure)| failure)
    }

    /// The one that a caller is told who wanted the container.
    pub fn first(self) -> Option<Failure> {
        self.0.into_iter().map(|(_, failure)| failure).next()
    }
}

/// A plan, as far as there is one.
#[derive(Debug)]
pub struct Survey {
    pub plan: Plan,
    pub refused: Refused,
}

impl Survey {
    /// The plan, where all of it is granted.
    ///
    /// # Errors
    /// The first refusal.
    pub fn granted(self) -> Result<Plan, Failure> {
        match self.refused.first() {
            None => Ok(self.plan),
            Some(failure) => Err(failure),
        }
    }
}
