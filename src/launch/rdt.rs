//! Puts a container into its class of service: see [`crate::plan::rdt`].
//!
//! A process that is forked is where its parent is. So init is put there before its program runs, and so is who joins
//! later.

use crate::plan::rdt::{Origin, Rdt};
use crate::report::{Failure, errno_text, io_text, one_line};
use crate::state::RecordedRdt;
use crate::sys::Errno;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// A container that is in its class. Dropping it removes what was made, unless it is to stay.
#[derive(Debug)]
pub struct Placed(Option<RecordedRdt>);

impl Placed {
    /// Puts the process of this pid there.
    ///
    /// # Errors
    /// `RDT`: what resctrl refuses, with its own words; a named class that is missing, or is not as asked for.
    pub fn put(rdt: &Rdt, pid: i32, container: &str) -> Result<Placed, Failure> {
        let mut placed = Placed(Some(RecordedRdt {
            class: rdt.class.clone(),
            made: Vec::new(),
            monitor: rdt.monitor.clone(),
        }));
        let made = match &mut placed.0 {
            Some(recorded) => &mut recorded.made,
            None => return Ok(placed),
        };
        let class = &rdt.class;
        let fail = |error: &io::Error| refused(class, error, container);
        match rdt.origin {
            Origin::Present => class.metadata().map(drop).map_err(|error| fail(&error))?,
            Origin::Own | Origin::Named => match std::fs::create_dir(class) {
                Ok(()) => {
                    made.extend((rdt.origin == Origin::Own).then(|| class.clone()));
                    write_schemata(class, &rdt.schemata).map_err(|error| fail(&error))?;
                }
                Err(error) if rdt.origin == Origin::Named && error.kind() == io::ErrorKind::AlreadyExists => {
                    compare(class, &rdt.schemata, container)?;
                }
                Err(error) => return Err(fail(&error)),
            },
        }
        if let Some(monitor) = &rdt.monitor {
            std::fs::create_dir(monitor).map_err(|error| refused(monitor, &error, container))?;
            // The innermost first, as they are removed.
            made.insert(0, monitor.clone());
        }
        placed.0.as_ref().map_or(Ok(()), |recorded| join(recorded, pid, container))?;
        Ok(placed)
    }

    /// What is to be known of it later.
    pub fn recorded(&self) -> Option<&RecordedRdt> {
        self.0.as_ref()
    }

    /// It is the container's.
    pub fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        // Undo: what led here is what is told.
        let _ = self.0.as_ref().map(remove);
    }
}

/// Puts one more process there.
///
/// # Errors
/// `RDT`: the class is gone, or not ours to use.
pub fn join(recorded: &RecordedRdt, pid: i32, container: &str) -> Result<(), Failure> {
    let places = std::iter::once(&recorded.class).chain(&recorded.monitor);
    for place in places {
        let tasks = place.join("tasks");
        std::fs::write(&tasks, pid.to_string()).map_err(|error| refused(&tasks, &error, container))?;
    }
    Ok(())
}

/// Changes what the class gets.
///
/// # Errors
/// `RDT`, with the words of resctrl.
pub fn update(recorded: &RecordedRdt, lines: &[String], container: &str) -> Result<(), Failure> {
    write_schemata(&recorded.class, lines).map_err(|error| refused(&recorded.class, &error, container))
}

/// Removes what was made for a container.
///
/// # Errors
/// What is there and cannot be removed.
pub fn remove(recorded: &RecordedRdt) -> io::Result<()> {
    for made in &recorded.made {
        match std::fs::remove_dir(made) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Without lines the file is not touched, as the specification has it.
fn write_schemata(class: &Path, lines: &[String]) -> io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(class.join("schemata"), text)
}

/// A class that is there is left as it is; that has to be what is asked for.
fn compare(class: &Path, lines: &[String], container: &str) -> Result<(), Failure> {
    let file = class.join("schemata");
    let there = std::fs::read_to_string(&file).map_err(|error| refused(&file, &error, container))?;
    let there: Vec<_> = there.lines().filter_map(shares).collect();
    let differs = |line: &&String| {
        let Some((resource, wanted)) = shares(line) else { return true };
        let found = there.iter().find(|(name, _)| *name == resource);
        found.is_none_or(|(_, found)| wanted.iter().any(|(id, share)| found.get(id) != Some(share)))
    };
    let Some(line) = lines.iter().find(differs) else { return Ok(()) };
    let cause = format!("{} is there and has not {line}: {}", class.display(), errno_text(Errno::EINVAL));
    Err(Failure::new(act(container), cause).code("RDT").fix("name another closID, or ask for what it has"))
}

/// `L3:0=7f0;1=1f` as a resource and what each of its domains gets. Blanks and leading zeros mean nothing.
fn shares(line: &str) -> Option<(&str, BTreeMap<&str, &str>)> {
    let (resource, rest) = line.trim().split_once(':')?;
    let share = |part| {
        let (id, share): (&str, &str) = str::split_once(part, '=')?;
        Some((id.trim(), share.trim().trim_start_matches('0')))
    };
    Some((resource.trim(), rest.split(';').map(share).collect::<Option<_>>()?))
}

fn act(container: &str) -> String {
    format!("cannot share out caches and memory bandwidth to container {container}")
}

/// resctrl says more of the last command than an errno does.
fn refused(at: &Path, error: &io::Error, container: &str) -> Failure {
    let mut above = at.ancestors().skip(1);
    let said = above.find_map(|dir| std::fs::read_to_string(dir.join("info/last_cmd_status")).ok());
    let said = said.map(|said| one_line(&said)).filter(|said| !said.is_empty() && said != "ok");
    let said = said.map(|said| format!("{said}: ")).unwrap_or_default();
    Failure::new(act(container), format!("{}: {said}{}", at.display(), io_text(error))).code("RDT").fix(
        "see what is free (info, schemata and the classes of resctrl), and ask for that in linux.intelRdt",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    /// A directory as resctrl's, but that nothing appears in it by itself.
    fn class(root: &Path, origin: Origin, lines: &[&str]) -> Rdt {
        let class = root.join("web");
        let monitor = Some(root.join("mon_groups/web"));
        std::fs::create_dir_all(root.join("mon_groups")).unwrap();
        Rdt { class, origin, schemata: lines.iter().map(|line| (*line).to_string()).collect(), monitor }
    }

    #[test]
    fn a_class_of_its_own_is_made_and_goes_with_it() {
        let scratch = Scratch::new();
        let rdt = class(&scratch, Origin::Own, &["L3:0=f", "MB:0=20"]);
        let placed = Placed::put(&rdt, 42, "web").unwrap();
        let read = |name: &str| std::fs::read_to_string(scratch.join(name)).unwrap();
        assert_eq!(read("web/schemata"), "L3:0=f\nMB:0=20\n");
        assert_eq!((read("web/tasks"), read("mon_groups/web/tasks")), ("42".into(), "42".into()));
        let recorded = placed.recorded().unwrap().clone();
        assert_eq!(recorded.made, [scratch.join("mon_groups/web"), rdt.class.clone()]);
        // The kernel's directories have nothing that is in the way of their removal.
        for file in ["web/schemata", "web/tasks", "mon_groups/web/tasks"] {
            std::fs::remove_file(scratch.join(file)).unwrap();
        }
        drop(placed);
        assert!(!rdt.class.exists() && !scratch.join("mon_groups/web").exists());
        assert!(remove(&recorded).is_ok());
    }

    #[test]
    fn a_named_class_that_is_there_has_to_be_as_asked_for_and_stays_as_it_is() {
        let scratch = Scratch::new();
        let rdt = class(&scratch, Origin::Named, &["L3:0=07f0;1=1f"]);
        std::fs::create_dir(&rdt.class).unwrap();
        std::fs::write(rdt.class.join("schemata"), "    MB:0=100\n    L3:0=7f0;1=1f\n").unwrap();
        Placed::put(&rdt, 1, "web").unwrap().keep();
        let other = Rdt { schemata: vec!["L3:0=1".into()], monitor: None, ..rdt.clone() };
        let line = Placed::put(&other, 1, "web").unwrap_err().to_string();
        assert!(line.contains("RDT: ") && line.contains("has not L3:0=1: invalid argument; fix: "), "{line}");
        assert!(rdt.class.join("schemata").exists());
    }

    #[test]
    fn a_named_class_without_lines_has_to_be_there() {
        let scratch = Scratch::new();
        let rdt = Rdt { monitor: None, ..class(&scratch, Origin::Present, &[]) };
        std::fs::create_dir(scratch.join("info")).unwrap();
        std::fs::write(scratch.join("info/last_cmd_status"), "out of CLOSIDs\n").unwrap();
        let line = Placed::put(&rdt, 1, "web").unwrap_err().to_string();
        assert!(line.contains("web: out of CLOSIDs: no such file or directory; fix: "), "{line}");
        assert!(!rdt.class.exists());
        std::fs::create_dir(&rdt.class).unwrap();
        Placed::put(&rdt, 1, "web").unwrap().keep();
        assert!(!rdt.class.join("schemata").exists());
    }
}
