//! Real input: a whole Debian root file system in a rootless container with a range of ids.

use serde_json::json;

use crate::lab::{Bundle, Lab, debian, plain_user_only};

/// A container of the shared tree, which nothing is written to: what programs write goes to tmpfs mounts. It
/// has the capabilities that engines give by default.
pub fn container(lab: &Lab) -> Bundle<'_> {
    lab.bundle()
        .subids()
        .with(|c| {
            let set = json!([
                "CAP_CHOWN",
                "CAP_DAC_OVERRIDE",
                "CAP_FOWNER",
                "CAP_FSETID",
                "CAP_KILL",
                "CAP_SETGID",
                "CAP_SETUID",
                "CAP_SETPCAP",
                "CAP_NET_BIND_SERVICE",
                "CAP_SYS_CHROOT",
                "CAP_SETFCAP",
            ]);
            c["process"]["capabilities"] = json!({ "bounding": set, "effective": set, "permitted": set });
            c["process"]["noNewPrivileges"] = false.into();
            c["process"]["env"][0] =
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into();
            c["root"] = json!({ "path": debian(), "readonly": true });
        })
        .add_mount(
            json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"] }),
        )
        .add_mount(
            json!({ "destination": "/root", "type": "tmpfs", "source": "tmpfs", "options": ["mode=0700"] }),
        )
}

fn bash<'lab>(lab: &'lab Lab, script: &str) -> Bundle<'lab> {
    container(lab).args(["bash", "-euc", script])
}

#[test]
fn apt_get_tells_its_version() {
    let lab = Lab::new();
    let ran = container(&lab).args(["apt-get", "--version"]).run().ok();
    assert!(ran.stdout.starts_with("apt "), "{}", ran.stdout);
}

#[test]
fn perl_computes() {
    let lab = Lab::new();
    container(&lab)
        .args(["perl", "-e", "print join(q(,), map { $_ ** 2 } 1 .. 5), qq(\\n)"])
        .run()
        .prints("1,4,9,16,25\n");
}

#[test]
fn su_becomes_another_user() {
    let lab = Lab::new();
    bash(&lab, "su nobody -s /bin/bash -c 'id -un; id -u; id -gn'").run().prints("nobody\n65534\nnogroup\n");
    // And a plain user does not become root without a password.
    let ran =
        bash(&lab, "su nobody -s /bin/bash -c 'su -c id root < /dev/null' && echo root || echo refused")
            .run()
            .ok();
    assert!(ran.stdout.ends_with("refused\n"), "{ran:?}");
}

#[test]
fn chown_reaches_every_id_of_the_range() {
    let lab = Lab::new();
    let script = "cd /tmp; for id in 0 1 33 1000 65534 65535 65536; do touch $id; chown $id:$id $id; \
                  stat -c %u:%g $id; done; chown 65537 0 2>/dev/null && echo too far || echo end";
    bash(&lab, script)
        .run()
        .prints("0:0\n1:1\n33:33\n1000:1000\n65534:65534\n65535:65535\n65536:65536\nend\n");
}

#[test]
fn a_program_is_compiled_and_runs() {
    let lab = Lab::new();
    let script = r#"cd /tmp
        printf '#include <stdio.h>\nint main(void) { puts("hello, moss"); return 42; }\n' > hello.c
        gcc -O1 -Wall -o hello hello.c
        ./hello || exit $?"#;
    let ran = bash(&lab, script).run().exits(42);
    assert_eq!(ran.stdout, "hello, moss\n");
}

#[test]
fn a_package_is_built_unpacked_and_compiled_against() {
    let lab = Lab::new();
    let script = r#"cd /tmp
        mkdir -p build/DEBIAN build/usr/include
        printf 'Package: moss\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody\nDescription: green\n' > build/DEBIAN/control
        echo '#define MOSS "unpacked and green"' > build/usr/include/moss.h
        chown -R 33:33 build/usr
        dpkg-deb --build build moss.deb > /dev/null
        dpkg-deb --extract moss.deb root
        stat -c %u:%g root/usr/include/moss.h
        printf '#include <stdio.h>\n#include <moss.h>\nint main(void) { puts(MOSS); }\n' > hello.c
        gcc -Iroot/usr/include -o hello hello.c
        ./hello"#;
    bash(&lab, script).run().prints("33:33\nunpacked and green\n");
}

#[test]
fn the_package_manager_reads_its_database() {
    let lab = Lab::new();
    let ran = bash(&lab, "dpkg-query -W -f '${Package} ${Status}\\n' perl gcc apt").run().ok();
    assert_eq!(ran.stdout.matches("install ok installed").count(), 3, "{}", ran.stdout);
}

#[test]
fn the_files_of_the_tree_belong_to_the_ids_of_the_container() {
    plain_user_only!("root's tree has the ids of the host");
    let lab = Lab::new();
    bash(&lab, "stat -c '%U:%G %a' /usr/bin/su /etc/shadow /var/mail; find / -xdev -nouser -o -xdev -nogroup | wc -l")
        .run()
        .prints("root:root 4755\nroot:shadow 640\nroot:mail 2775\n0\n");
}

#[test]
fn a_setuid_program_raises_its_user() {
    let lab = Lab::new();
    let script = "cp /usr/bin/id /tmp/id; chmod 4755 /tmp/id; su nobody -s /bin/bash -c '/tmp/id -u'";
    bash(&lab, script).run().prints("0\n");
    let bundle = bash(&lab, script).with(|c| c["process"]["noNewPrivileges"] = true.into());
    bundle.run().prints("65534\n");
}
