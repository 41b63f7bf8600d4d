//! Buildah: steps of a build are containers too, and it asks the runtime for their state.

use crate::lab::{Program, Ran, runtime};
use crate::podman::{Podman, podman};

fn buildah(podman: &Podman, line: &str) -> Program {
    let place = podman.place.dir.display();
    podman
        .plain("buildah")
        .words(&format!("--root {place}/storage --runroot {place}/run {line}"))
        .env("BUILDAH_ISOLATION", if crate::lab::is_root() { "oci" } else { "rootless" })
        .env("BUILDAH_RUNTIME", runtime())
}

fn run(line: &str) -> Ran {
    buildah(podman(), line).run()
}

/// A working container from the image, which the closure uses.
fn from_moss(test: impl FnOnce(&str)) {
    let name = run("from --pull-never moss").text();
    test(&name);
    run(&format!("rm {name}")).ok();
}

#[test]
#[ignore = "needs buildah: scripts/test runs it in the guest"]
fn run_shows_output_and_exit_code() {
    from_moss(|name| {
        run(&format!("run --network none {name} -- echo leaf")).prints("leaf");
        run(&format!("run --network none {name} -- sh -c 'exit 5'")).exits(5);
    });
}

#[test]
#[ignore = "needs buildah: scripts/test runs it in the guest"]
fn run_keeps_what_it_writes() {
    from_moss(|name| {
        run(&format!("run --network none {name} -- sh -c 'echo green > /leaf'")).ok();
        run(&format!("run --network none {name} -- cat /leaf")).prints("green");
    });
}

#[test]
#[ignore = "needs buildah: scripts/test runs it in the guest"]
fn run_as_another_user_in_a_directory() {
    from_moss(|name| {
        run(&format!(
            "run --network none --user 1000 --workingdir /tmp --env LEAF=red {name} -- sh -c 'echo $(id -u) $PWD $LEAF'"
        ))
        .prints("1000 /tmp red");
    });
}

#[test]
#[ignore = "needs buildah: scripts/test runs it in the guest"]
fn run_on_a_terminal() {
    from_moss(|name| {
        buildah(podman(), &format!("run --network none --tty {name} -- sh"))
            .on_terminal(30, 90, "test -t 0 && echo is-a-$((1+1))tty\nexit 3\n")
            .run()
            .exits(3)
            .says("is-a-2tty");
    });
}

#[test]
#[ignore = "needs buildah: scripts/test runs it in the guest"]
fn run_with_a_volume_and_without_capabilities() {
    let dir = podman().place.scratch();
    from_moss(|name| {
        run(&format!("run --network none --volume {}:/mnt --cap-drop all {name} -- sh -c 'echo x > /mnt/a; grep CapEff /proc/self/status'", dir.display()))
            .ok()
            .says("0000000000000000");
        assert!(dir.join("a").exists());
    });
}

#[test]
#[ignore = "needs buildah: scripts/test runs it in the guest"]
fn run_a_command_that_does_not_exist() {
    from_moss(|name| {
        run(&format!("run --network none {name} -- no-such-command")).fails().says("no-such-command");
    });
}

#[test]
#[ignore = "needs buildah: scripts/test runs it in the guest"]
fn run_with_host_network_and_namespaces() {
    from_moss(|name| {
        let shown =
            run(&format!("run --network host --pid host {name} -- readlink /proc/self/ns/net")).text();
        assert_eq!(shown, crate::lab::namespace("self", "net"));
    });
}

#[test]
#[ignore = "needs buildah: scripts/test runs it in the guest"]
fn build_with_run() {
    let p = podman();
    let dir = p.place.scratch();
    let file = "FROM localhost/moss:latest\nRUN echo green > /leaf && id -u > /uid\nUSER 1000\n\
                RUN echo brown > /tmp/bark\nCMD cat /leaf /uid /tmp/bark\n";
    std::fs::write(dir.join("Containerfile"), file).unwrap();
    let tag = p.place.name();
    run(&format!("build --network none --tag {tag} {}", dir.display())).ok();
    p.run(&format!("run --rm {tag}")).prints("green\n0\nbrown");
}

#[test]
#[ignore = "needs buildah: scripts/test runs it in the guest"]
fn build_that_fails_says_so() {
    let p = podman();
    let dir = p.place.scratch();
    std::fs::write(dir.join("Containerfile"), "FROM localhost/moss:latest\nRUN exit 9\n").unwrap();
    run(&format!("build --network none {}", dir.display())).fails().says("9");
}

#[test]
#[ignore = "needs buildah: scripts/test runs it in the guest"]
fn podman_builds_with_mounts_of_a_step() {
    let p = podman();
    let dir = p.place.scratch();
    let file = "FROM localhost/moss:latest\n\
                RUN --mount=type=tmpfs,target=/scratch --mount=type=bind,source=.,target=/src cp /src/leaf /scratch/ && cp /scratch/leaf /\n\
                RUN --mount=type=secret,id=word cat /run/secrets/word > /word\n";
    std::fs::write(dir.join("Containerfile"), file).unwrap();
    std::fs::write(dir.join("leaf"), "green\n").unwrap();
    std::fs::write(dir.join("word"), "hush\n").unwrap();
    let tag = p.place.name();
    let secret = dir.join("word");
    p.run(&format!(
        "build --network none --secret id=word,src={} --tag {tag} {}",
        secret.display(),
        dir.display()
    ))
    .ok();
    p.run(&format!("run --rm {tag} cat /leaf /word")).prints("green\nhush");
}
