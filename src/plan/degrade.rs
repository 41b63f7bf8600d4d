//! Degradations as data: what was wanted, what it became, why, and how to get what was wanted.

use crate::report::Failure;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// How much a degradation changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// The same result by another road: reported, not warned of.
    Same,
    /// Weaker means, never weaker isolation: one warning line.
    Weaker,
    /// Something that was asked for is not there, which the caller has allowed by name: likewise.
    Allowed,
}

/// What was asked for and may go where it is not to be had, if the caller says so by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// Resource limits.
    Limits,
    /// Additional groups.
    Groups,
    /// A proc of the container's own pid namespace.
    Proc,
    /// A network and its published ports; loopback stays.
    Network,
    /// Devices that are listed.
    Devices,
    /// An AppArmor profile, on a host that has no AppArmor.
    Apparmor,
}

impl Allowance {
    pub const ALL: [Allowance; 6] = [
        Allowance::Limits,
        Allowance::Groups,
        Allowance::Proc,
        Allowance::Network,
        Allowance::Devices,
        Allowance::Apparmor,
    ];

    /// The name that the caller says.
    pub fn name(self) -> &'static str {
        match self {
            Allowance::Limits => "limits",
            Allowance::Groups => "groups",
            Allowance::Proc => "proc",
            Allowance::Network => "network",
            Allowance::Devices => "devices",
            Allowance::Apparmor => "apparmor",
        }
    }

    /// The last of the ways out: to go without.
    pub fn or_without(self, fix: impl fmt::Display) -> String {
        format!("{fix}, or do without with --degrade={}", self.name())
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// What the caller allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    /// Weaker means are refused.
    strict: bool,
    /// What may go, a bit each.
    allowed: u8,
}

impl Policy {
    /// Reads `auto`, `strict` (or `none`), names of what may go, or several of these with commas between them.
    ///
    /// # Errors
    /// A word that is none of these, and two that contradict each other.
    pub fn parse(text: &str) -> Result<Policy, String> {
        let mut policy = Policy::default();
        let mut auto = false;
        for word in text.split(',').filter(|word| !word.is_empty()) {
            match word {
                "auto" => auto = true,
                "strict" | "none" => policy.strict = true,
                name => match Allowance::ALL.into_iter().find(|allowance| allowance.name() == name) {
                    Some(allowance) => policy.allowed |= allowance.bit(),
                    None => {
                        return Err(format!("{name:?} is nothing that could be degraded: invalid argument"));
                    }
                },
            }
        }
        if auto && policy.strict {
            return Err("auto and strict contradict each other: invalid argument".into());
        }
        Ok(policy)
    }

    /// The words of [`Policy::parse`], for who used another.
    pub fn words() -> String {
        format!("auto, strict or none, {}", Allowance::ALL.map(Allowance::name).join(", "))
    }

    /// Whether this may go.
    pub fn allows(&self, allowance: Allowance) -> bool {
        self.allowed & allowance.bit() != 0
    }

    /// Weaker means that the caller allows by name are no matter for `strict`.
    pub fn grade(&self, allowance: Allowance, mut degradation: Degradation) -> Degradation {
        if degradation.class == Class::Weaker && self.allows(allowance) {
            degradation.class = Class::Allowed;
        }
        degradation
    }

    /// Checks what came up for `whom` against what is allowed.
    ///
    /// # Errors
    /// The first weaker means, where those are refused.
    pub fn check(&self, whom: &dyn fmt::Display, found: &[Degradation]) -> Result<(), Failure> {
        let weaker = found.iter().find(|d| self.strict && d.class == Class::Weaker);
        let Some(d) = weaker else { return Ok(()) };
        let auto = "allow it with --degrade=auto";
        Err(Failure::new(
            format!("cannot give {whom} {}", d.wanted),
            format!("{}: {}, and degradations are refused: operation not permitted", d.code, d.because),
        )
        .fix(d.fix.as_ref().map_or(auto.into(), |fix| format!("{fix}, or {auto}"))))
    }
}

/// One degradation; stored with the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Degradation {
    /// A code of the table; stable.
    pub code: Cow<'static, str>,
    pub class: Class,
    pub wanted: String,
    pub got: String,
    pub because: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Degradation {
    /// The same result by another road.
    pub fn same(
        code: &'static str,
        wanted: impl Into<String>,
        got: impl Into<String>,
        because: impl Into<String>,
    ) -> Degradation {
        Degradation {
            code: code.into(),
            class: Class::Same,
            wanted: wanted.into(),
            got: got.into(),
            because: because.into(),
            fix: None,
        }
    }

    /// Weaker means.
    pub fn weaker(
        code: &'static str,
        wanted: impl Into<String>,
        got: impl Into<String>,
        because: impl Into<String>,
    ) -> Degradation {
        Degradation { class: Class::Weaker, ..Degradation::same(code, wanted, got, because) }
    }

    /// Without something that was asked for, as the caller allows.
    pub fn allowed(
        code: &'static str,
        wanted: impl Into<String>,
        got: impl Into<String>,
        because: impl Into<String>,
    ) -> Degradation {
        Degradation { class: Class::Allowed, ..Degradation::same(code, wanted, got, because) }
    }

    /// The same, where nobody asked for what is missing.
    #[must_use]
    pub fn noted(mut self) -> Degradation {
        self.class = Class::Same;
        self
    }

    /// Adds the way to what was wanted.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Degradation {
        self.fix = Some(fix.into());
        self
    }

    /// The warning line, for those that deserve one.
    pub fn warning(&self) -> Option<String> {
        if self.class == Class::Same {
            return None;
        }
        let fix = self.fix.as_ref().map(|fix| format!("; fix: {fix}")).unwrap_or_default();
        Some(format!("{}: {}, wanted {}: {}{fix}", self.code, self.got, self.wanted, self.because))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_weaker_is_refused_and_only_when_asked() {
        let found = [
            Degradation::same("MNT-MQUEUE", "a", "b", "c"),
            Degradation::weaker("RLIM", "RLIMIT_NOFILE 9", "RLIMIT_NOFILE 8", "the hard limit is 8"),
        ];
        assert!(Policy::parse("auto").unwrap().check(&"web", &found).is_ok());
        let line = Policy::parse("strict").unwrap().check(&"web", &found).unwrap_err().to_string();
        assert!(line.contains("RLIM") && line.contains("; fix: "), "{line}");
        assert!(Policy::parse("none").unwrap().check(&"web", &found[..1]).is_ok());
    }

    #[test]
    fn what_is_allowed_by_name_is_warned_of_and_passes_where_weaker_means_are_refused() {
        let policy = Policy::parse("strict,limits").unwrap();
        let less = Degradation::allowed("CG-CTRL", "memory.limit", "no such limit", "no controller");
        let graded = policy.grade(Allowance::Limits, Degradation::weaker("CG-CTRL", "a", "b", "c"));
        assert!(policy.check(&"web", &[less.clone(), graded]).is_ok());
        assert!(less.warning().is_some());
        let other = policy.grade(Allowance::Network, Degradation::weaker("NET-TUN", "a", "b", "c"));
        assert!(policy.check(&"web", &[other]).is_err());
    }

    #[test]
    fn a_policy_is_words_that_are_known_and_go_together() {
        let policy = Policy::parse("limits,groups").unwrap();
        assert!(policy.allows(Allowance::Limits) && policy.allows(Allowance::Groups));
        assert!(!policy.allows(Allowance::Proc));
        for allowance in Allowance::ALL {
            assert!(Policy::parse(allowance.name()).unwrap().allows(allowance));
            assert!(Policy::words().contains(allowance.name()));
        }
        assert_eq!(Policy::parse(""), Policy::parse("auto"));
        assert_eq!(Policy::parse("none"), Policy::parse("strict"));
        for bad in ["limits,everything", "Limits", "auto,strict", "none,auto"] {
            assert!(Policy::parse(bad).unwrap_err().ends_with("invalid argument"), "{bad}");
        }
    }

    #[test]
    fn a_warning_names_code_means_cause_and_fix_on_one_line() {
        let d =
            Degradation::weaker("RLIM", "RLIMIT_NOFILE 4096", "RLIMIT_NOFILE 1024", "the hard limit is 1024")
                .fix("raise it in limits.conf");
        assert_eq!(
            d.warning().unwrap(),
            "RLIM: RLIMIT_NOFILE 1024, wanted RLIMIT_NOFILE 4096: the hard limit is 1024; fix: raise it in limits.conf"
        );
        assert_eq!(Degradation::same("MNT-MQUEUE", "a", "b", "c").warning(), None);
    }
}
