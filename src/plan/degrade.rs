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
}

/// What the caller allows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Weaker means are refused.
    pub strict: bool,
    /// Explicit resource limits may go.
    pub limits: bool,
    /// Additional groups may go.
    pub groups: bool,
}

impl Policy {
    /// Reads `auto`, `strict` (or `none`), or a list of what may go.
    ///
    /// # Errors
    /// A word that is none of these.
    pub fn parse(text: &str) -> Result<Policy, String> {
        let mut policy = Policy::default();
        for word in text.split(',').filter(|word| !word.is_empty()) {
            match word {
                "auto" => {}
                "strict" | "none" => policy.strict = true,
                "limits" => policy.limits = true,
                "groups" => policy.groups = true,
                other => {
                    return Err(format!("{other:?} is nothing that could be degraded: invalid argument"));
                }
            }
        }
        Ok(policy)
    }

    /// Checks what came up for `whom` against what is allowed.
    ///
    /// # Errors
    /// The first weaker means, where those are refused.
    pub fn check(&self, whom: &dyn fmt::Display, found: &[Degradation]) -> Result<(), Failure> {
        let weaker = found.iter().find(|d| self.strict && d.class == Class::Weaker);
        let Some(d) = weaker else { return Ok(()) };
        Err(Failure::new(
            format!("cannot give {whom} {}", d.wanted),
            format!("{}: {}, and degradations are refused: operation not permitted", d.code, d.because),
        )
        .fix(d.fix.clone().unwrap_or_else(|| "allow it with --degrade=auto".into())))
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
        assert!(Policy::parse("limits,groups").unwrap().groups);
        assert!(Policy::parse("limits,everything").is_err());
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
