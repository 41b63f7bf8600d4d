//! Degradations as data: what was wanted, what it became, why, and how to get what was wanted.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// How much a degradation changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// The same result by another road: reported, not warned of.
    Same,
    /// Weaker means, never weaker isolation: one warning line.
    Weaker,
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
