//! What explain tells of a cgroup is where the container is then, and what is written there.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::cgroup::{Ground, both_managers};
use crate::lab::bryo_only;

both_managers!(the_cgroup_and_its_limits_are_those_that_it_tells);

fn the_cgroup_and_its_limits_are_those_that_it_tells(ground: &Ground) {
    bryo_only!("runc has no such verb");
    let id = ground.lab.id();
    let bundle = ground.bundle().named(&id).sleeps().with(|c| {
        c["linux"]["resources"] = json!({"pids": {"limit": 42}, "memory": {"limit": 67_108_864}});
    });
    let told = bundle.named_call("explain", &id).args(["--json"]).done().ok().json();
    let container = bundle.detach();
    let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    let found = cgroup.trim().strip_prefix("0::").unwrap();
    assert_eq!(told["cgroup"]["path"], found);
    let settings = told["cgroup"]["settings"].as_array().unwrap();
    assert!(settings.len() >= 2, "{settings:?}");
    for setting in settings {
        let path = format!("/sys/fs/cgroup{found}/{}", setting["file"].as_str().unwrap());
        // Swap may not be counted here.
        if Path::new(&path).exists() {
            assert_eq!(fs::read_to_string(&path).unwrap().trim(), setting["value"], "{path}");
        }
    }
    container.remove();
}
