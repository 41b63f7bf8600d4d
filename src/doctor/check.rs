//! What a probe says, and what that means for who asks.
//!
//! A probe knows what is there and what is missing. Whether that is in somebody's way depends on what they are about
//! to do: without a cgroup a container runs, and its limits are refused. So a [`Check`] names who cannot do without
//! and who goes on with weaker means, and becomes a [`Finding`] for one [`Scope`].

use crate::codes;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::ops::BitOr;

/// What somebody is about to do: `--for`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// A container like that of `bryo spec`.
    Run,
    /// One that is connected to a network.
    Network,
    /// One with resource limits.
    Limits,
    /// One in another container.
    Nested,
    /// To be the runtime of Podman.
    Podman,
    /// To be the runtime of Docker.
    Docker,
}

impl Scope {
    pub const ALL: [Scope; 6] =
        [Scope::Run, Scope::Network, Scope::Limits, Scope::Nested, Scope::Podman, Scope::Docker];

    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Run => "run",
            Scope::Network => "network",
            Scope::Limits => "limits",
            Scope::Nested => "nested",
            Scope::Podman => "podman",
            Scope::Docker => "docker",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Scope> {
        Scope::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

/// A set of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scopes(u8);

impl Scopes {
    pub const NONE: Scopes = Scopes(0);
    pub const ALL: Scopes = Scopes(0b11_1111);
    /// Podman and Docker.
    pub const ENGINES: Scopes = Scopes(1 << Scope::Podman as u8 | 1 << Scope::Docker as u8);

    pub const fn has(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }
}

impl From<Scope> for Scopes {
    fn from(scope: Scope) -> Scopes {
        Scopes(1 << scope as u8)
    }
}

impl<S: Into<Scopes>> BitOr<S> for Scopes {
    type Output = Scopes;

    fn bitor(self, other: S) -> Scopes {
        Scopes(self.0 | other.into().0)
    }
}

impl<S: Into<Scopes>> BitOr<S> for Scope {
    type Output = Scopes;

    fn bitor(self, other: S) -> Scopes {
        Scopes::from(self) | other
    }
}

/// What became of one probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at. A stable name.
    pub what: Cow<'static, str>,
    /// What it is one of: what is well of a kind is told in one line.
    pub kind: Option<Cow<'static, str>>,
    /// What was seen.
    pub evidence: String,
    /// What is missing.
    pub lack: Option<Lack>,
    /// Whom it is for, and who goes on with weaker means where it is missing.
    pub serves: Scopes,
    /// Who cannot do without.
    pub stops: Scopes,
}

/// What is missing, in the words of `run`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lack {
    pub code: Cow<'static, str>,
    pub fix: Option<String>,
}

impl Check {
    /// All is well.
    pub fn fine(what: impl Into<Cow<'static, str>>, evidence: impl Into<String>) -> Check {
        let (serves, stops) = (Scopes::ALL, Scopes::NONE);
        Check { what: what.into(), kind: None, evidence: evidence.into(), lack: None, serves, stops }
    }

    /// Something is missing. `because` says what was seen. Without a fix of its own it has the general one of its code.
    pub fn lacking(
        what: impl Into<Cow<'static, str>>,
        code: impl Into<Cow<'static, str>>,
        because: impl Into<String>,
        fix: Option<impl Into<String>>,
    ) -> Check {
        let code = code.into();
        let general = || codes::find(&code).map(|code| code.fix.to_string());
        let fix = fix.map(Into::into).or_else(general);
        let lack = Lack { code, fix };
        Check { lack: Some(lack), ..Check::fine(what, because) }
    }

    /// One of several of a kind: `namespaces`.
    #[must_use]
    pub fn of_kind(mut self, kind: &'static str) -> Check {
        self.kind = Some(kind.into());
        self
    }

    /// For whom it is, if not for all.
    #[must_use]
    pub fn serving(mut self, scopes: impl Into<Scopes>) -> Check {
        self.serves = scopes.into();
        self
    }

    /// Who cannot do without.
    #[must_use]
    pub fn stopping(mut self, scopes: impl Into<Scopes>) -> Check {
        self.stops = scopes.into();
        self
    }

    /// What it is for somebody; nothing where it is none of their business. Without a scope everything counts, and
    /// blocks what blocks a plain container.
    pub fn finding(&self, scope: Option<Scope>) -> Option<Finding> {
        if !scope.is_none_or(|scope| self.serves.has(scope) || self.stops.has(scope)) {
            return None;
        }
        let status = match &self.lack {
            None => Status::Ok,
            Some(_) if self.stops.has(scope.unwrap_or(Scope::Run)) => Status::Blocked,
            Some(_) => Status::Degraded,
        };
        let code = self.lack.as_ref().map(|lack| lack.code.clone());
        let fix = self.lack.as_ref().and_then(|lack| lack.fix.clone());
        let needs_root = code.as_deref().is_some_and(needs_root);
        let (what, kind, evidence) = (self.what.clone(), self.kind.clone(), self.evidence.clone());
        Some(Finding { what, kind, status, code, evidence, fix, needs_root })
    }
}

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    /// It goes on with weaker means, or something of it is refused.
    Degraded,
    /// It is refused.
    Blocked,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Degraded => "degraded",
            Status::Blocked => "blocked",
        }
    }

    pub fn exit_code(self) -> u8 {
        self as u8
    }
}

/// A line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub what: Cow<'static, str>,
    #[serde(skip)]
    pub kind: Option<Cow<'static, str>>,
    pub status: Status,
    /// Of what is missing; `bryo help codes` explains it.
    pub code: Option<Cow<'static, str>>,
    pub evidence: String,
    pub fix: Option<String>,
    /// The fix takes root, or whoever runs the host.
    pub needs_root: bool,
}

impl Finding {
    /// Something is known to be missing, and not only unseen.
    pub fn lacks(&self) -> bool {
        self.code.as_deref().is_some_and(|code| code != "PROBE")
    }
}

/// Whether the way out of a code takes root.
fn needs_root(code: &str) -> bool {
    codes::find(code).is_some_and(|code| code.needs_root)
}
