//! Hosts.

use super::*;

pub(super) const EVERY_CAPABILITY: u64 = (1 << 41) - 1;

pub(super) const fn range(start: u32, count: u32) -> IdRange {
    IdRange { start, count }
}

/// alice, uid and gid 1000, on a Debian where root has installed bryo. Her subordinate ids are not looked up.
pub(super) fn alice() -> Facts {
    let mut hard_limits = [u64::MAX; 16];
    hard_limits[libc::RLIMIT_NOFILE as usize] = 524_288;
    hard_limits[libc::RLIMIT_MEMLOCK as usize] = 8 << 20;
    Facts {
        euid: 1000,
        egid: 1000,
        in_child_userns: false,
        capabilities: 0,
        own_ids: (vec![IdRange::ALL], vec![IdRange::ALL]),
        subids: None,
        setgroups_denied: false,
        hard_limits,
        oom_score_adj: 0,
        binary_owner: Some(0),
        lsm: Lsm::default(),
        cgroups: session(),
        devices: BTreeMap::new(),
        network: Network::default(),
        roots: None,
        resctrl: None,
        proc: Tried::Not,
    }
}

/// The cgroups of who has logged in on a Debian: systemd's, none of them alice's own.
pub(super) fn session() -> Cgroups {
    Cgroups {
        own: "/user.slice/user-1000.slice/session-2.scope".into(),
        delegate: vec![c".".into(), c"cgroup.procs".into(), c"cgroup.subtree_control".into()],
        systemd: true,
        user_bus: vec![bus("/run/user/1000/bus")],
        user_controllers: Some(vec!["cpu".into(), "memory".into(), "pids".into()]),
        manager: Some("/user.slice/user-1000.slice/user@1000.service".into()),
        ..Cgroups::none(Hierarchy::Unified)
    }
}

pub(super) fn bus(path: &str) -> Candidate {
    Candidate { address: Address::Path(path.into()), peer: Peer::Bus }
}

pub(super) fn subtree(path: &str, controllers: &str) -> Subtree {
    Subtree { path: path.into(), controllers: controllers.split(' ').map(String::from).collect() }
}

/// alice with something else about her cgroups.
pub(super) fn alice_in(change: impl FnOnce(&mut Cgroups)) -> Facts {
    let mut facts = alice();
    change(&mut facts.cgroups);
    facts
}

/// alice in `systemd-run --user --scope -p Delegate=yes`.
pub(super) fn alice_delegated() -> Facts {
    let scope = "/user.slice/user-1000.slice/user@1000.service/app.slice/run-7.scope";
    alice_in(|cgroups| {
        cgroups.own = scope.into();
        cgroups.subtree = Some(subtree(scope, "cpu memory pids"));
    })
}

/// alice, who has 65536 subordinate ids and the helpers of Debian's uidmap.
pub(super) fn alice_with_subids() -> Facts {
    let subids = Subids {
        user: "alice".into(),
        uids: vec![range(100_000, 65536)],
        gids: vec![range(100_000, 65536)],
        newuidmap: Helper::Usable("/usr/bin/newuidmap".into()),
        newgidmap: Helper::Usable("/usr/bin/newgidmap".into()),
        no_new_privs: false,
    };
    Facts { subids: Some(subids), ..alice() }
}

/// The same with something about her subordinate ids amiss.
pub(super) fn alice_but(amiss: impl FnOnce(&mut Subids)) -> Facts {
    let mut facts = alice_with_subids();
    amiss(facts.subids.as_mut().unwrap());
    facts
}

/// root of the machine.
pub(super) fn root() -> Facts {
    let cgroups = Cgroups {
        own: "/user.slice/user-0.slice/session-1.scope".into(),
        delegate: session().delegate,
        top: Some(subtree("/", "cpuset cpu io memory hugetlb pids rdma")),
        systemd: true,
        system_bus: vec![bus("/run/dbus/system_bus_socket")],
        manager: Some("/".into()),
        device_filter: true,
        ..Cgroups::none(Hierarchy::Unified)
    };
    Facts { euid: 0, egid: 0, capabilities: EVERY_CAPABILITY, cgroups, ..alice() }
}

/// root inside alice's user namespace, as Podman starts runtimes.
pub(super) fn podman() -> Facts {
    let own = vec![range(0, 1), range(1, 65536)];
    // bryo belongs to the machine's root, who is nobody there.
    Facts {
        in_child_userns: true,
        own_ids: (own.clone(), own),
        binary_owner: Some(65534),
        cgroups: session(),
        ..root()
    }
}
