//! What launch does for the mounts of a container that init may not: it opens sources that only our caller can
//! reach, and gives files other ids where that takes the rights of our caller.

use super::explain;
use crate::init;
use crate::plan::Plan;
use crate::plan::step::{Bind, IdMaps, Ids, Op};
use crate::report::Failure;
use crate::sys::{self, Errno, mount};
use std::os::fd::{AsFd, OwnedFd};

/// Makes the mounts that init asks for.
#[derive(Debug)]
pub struct Sources<'a> {
    plan: &'a Plan,
    /// The host's /proc.
    proc: &'a OwnedFd,
    /// The user namespaces made so far: volumes of one container mostly have the same maps.
    namespaces: Vec<(&'a IdMaps, OwnedFd)>,
}

impl<'a> Sources<'a> {
    pub fn new(plan: &'a Plan, proc: &'a OwnedFd) -> Sources<'a> {
        Sources { plan, proc, namespaces: Vec::new() }
    }

    /// The mount that a step is to show: of what init could open, or of what it could not. An errno is for init to
    /// report.
    ///
    /// # Errors
    /// `MNT-IDMAP` where the mount cannot have the ids that it is to have.
    pub fn shown(&mut self, step: u16, tree: Option<OwnedFd>) -> Result<sys::Result<OwnedFd>, Failure> {
        let Some(bind) = self.bind(step) else { return Ok(Err(Errno::EINVAL)) };
        let tree = match tree.map_or_else(|| init::source(bind), Ok) {
            Ok(tree) => tree,
            Err(errno) => return Ok(Err(errno)),
        };
        if let Some(ids) = &bind.ids {
            self.change_ids(&tree, bind, ids)?;
        }
        Ok(Ok(tree))
    }

    fn change_ids(&mut self, tree: &OwnedFd, bind: &Bind, ids: &'a Ids) -> Result<(), Failure> {
        let made = self.namespaces.iter().position(|(maps, _)| **maps == ids.maps);
        let n = match made {
            Some(n) => n,
            None => {
                let namespace = init::id_maps(&ids.maps, self.proc.as_fd())
                    .map_err(|errno| explain::ids(bind, errno, init::NO_ID_MAPS, &self.plan.id))?;
                self.namespaces.push((&ids.maps, namespace));
                self.namespaces.len() - 1
            }
        };
        mount::set_idmap(tree.as_fd(), self.namespaces[n].1.as_fd(), ids.recursive)
            .map_err(|errno| explain::ids(bind, errno, b"", &self.plan.id))
    }

    /// The bind mount of a step, or the one that it falls back to.
    fn bind(&self, step: u16) -> Option<&'a Bind> {
        self.plan.steps.get(usize::from(step))?.means().find_map(|op| match op {
            Op::Bind(bind) => Some(bind),
            _ => None,
        })
    }
}
