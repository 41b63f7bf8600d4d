//! What is around us: whether this is a container already, and what of it is in the way of another one.

use super::idmap::IdRange;
use std::path::{Path, PathBuf};

/// An outer container, as far as it shows from within.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outer {
    /// Whose it is, where that shows: `docker`, `podman`, `kubernetes`.
    pub engine: Option<String>,
    /// A seccomp filter is on us.
    pub seccomp: bool,
    /// no_new_privs is set on us.
    pub no_new_privs: bool,
    /// The AppArmor profile or SELinux label that confines us.
    pub label: Option<String>,
    /// What of our /proc is covered, so that no other may be mounted.
    pub masked: Vec<PathBuf>,
    /// The ids that there are, if not all.
    pub ids: Option<u64>,
}

impl Outer {
    /// Whether we are in a container.
    pub fn is_one(&self) -> bool {
        self.engine.is_some()
    }

    /// What there is to say of it, for a line.
    pub fn describe(&self) -> String {
        let mut said = Vec::new();
        said.extend(self.engine.as_ref().map(|engine| format!("in {engine}")));
        said.extend(self.seccomp.then(|| "a seccomp filter".to_string()));
        said.extend(self.label.as_ref().map(|label| format!("confined by {label}")));
        said.extend(self.no_new_privs.then(|| "no_new_privs".to_string()));
        said.extend(self.ids.map(|ids| if ids == 1 { "one id".to_string() } else { format!("{ids} ids") }));
        match &self.masked[..] {
            [] => {}
            [one] => said.push(format!("{} masked", one.display())),
            [first, more @ ..] => said.push(format!("{} and {} more masked", first.display(), more.len())),
        }
        if said.is_empty() { "none, as far as can be seen".into() } else { said.join(", ") }
    }
}

/// Reads it.
pub fn read() -> Outer {
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let status = text("/proc/self/status");
    let is = |field: &str, value: &str| status.lines().any(|l| l.split_whitespace().eq([field, value]));
    let label = text("/proc/self/attr/current");
    Outer {
        engine: engine(),
        seccomp: is("Seccomp:", "2"),
        no_new_privs: is("NoNewPrivs:", "1"),
        label: confining(&label),
        masked: super::proc::covered(),
        ids: count(&super::idmap::own().0),
    }
}

fn engine() -> Option<String> {
    let there = |path: &str| Path::new(path).exists();
    let named = std::env::var("container").ok().filter(|name| !name.is_empty());
    if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        Some("kubernetes".into())
    } else if there("/.dockerenv") {
        Some("docker".into())
    } else if there("/run/.containerenv") {
        Some("podman".into())
    } else {
        named
    }
}

/// A profile that confines: neither AppArmor's nor SELinux's word for none.
fn confining(label: &str) -> Option<String> {
    let label = label.trim_end_matches(['\0', '\n']);
    let free = label.is_empty() || label.contains("unconfined") || label == "kernel";
    (!free).then(|| label.to_string())
}

fn count(ids: &[IdRange]) -> Option<u64> {
    let count = ids.iter().map(|range| u64::from(range.count)).sum();
    (0 < count && count < u64::from(u32::MAX)).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_confines_unless_it_says_that_it_does_not() {
        assert_eq!(confining("docker-default (enforce)\n").as_deref(), Some("docker-default (enforce)"));
        assert_eq!(
            confining("system_u:system_r:container_t:s0\0").as_deref(),
            Some("system_u:system_r:container_t:s0")
        );
        for free in ["unconfined\n", "unconfined_u:unconfined_r:unconfined_t:s0", "kernel", ""] {
            assert_eq!(confining(free), None, "{free}");
        }
    }

    #[test]
    fn all_ids_are_no_limit() {
        assert_eq!(count(&[IdRange::ALL]), None);
        assert_eq!(count(&[]), None);
        assert_eq!(count(&[IdRange { start: 0, count: 1 }, IdRange { start: 1, count: 9 }]), Some(10));
    }
}
