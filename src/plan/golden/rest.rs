//! The rest.

use super::*;

pub(super) fn seccomp_agent() -> Scenario {
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": "/run/agent.sock",
        "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}],
    });
    scenario(with(one_id(), &json!({"linux": {"seccomp": profile}})), alice())
}

pub(super) fn hooks_in_order() -> Scenario {
    let hook = |name: &str| json!([{"path": format!("/hooks/{name}")}]);
    let hooks = json!({
        "prestart": hook("prestart"),
        "createRuntime": [
            {"path": "/hooks/first", "args": ["first", "--net"], "env": ["A=1", "B="], "timeout": 5},
            {"path": "/hooks/second"}
        ],
        "createContainer": [{"path": "/hooks/third"}, {"path": "/hooks/fourth"}],
        "startContainer": hook("start"),
        "poststart": hook("poststart"),
        "poststop": hook("poststop"),
    });
    let process = json!({"terminal": true});
    scenario(with(one_id(), &json!({ "hooks": hooks, "process": process })), alice())
}
