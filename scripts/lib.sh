# shellcheck shell=bash
# What quickstart, test, bench and deps share: saying what is done, asking for root only where
# it is needed, finding or installing a Rust toolchain, and the plain user that containers
# run as. Sourced, never run; the caller has set -euo pipefail.

# CI may start things with next to no environment.
export HOME=${HOME:-$(getent passwd "$(id -u)" | cut -d: -f6)}

repo=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd -P)

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# Prints a command in a form that can be pasted, then runs it.
run() {
	printf '$'
	printf ' %q' "$@"
	printf '\n'
	"$@"
}

is_root() { [ "$(id -u)" -eq 0 ]; }

# Runs one command as root, with sudo where the caller is a plain user.
root() {
	if is_root; then
		run "$@"
	elif command -v sudo >/dev/null; then
		run sudo "$@"
	else
		die "needs root and finds no sudo; fix: run as root: $*"
	fi
}

# --- packages ------------------------------------------------------------------------

# The version of a package that apt would install; empty where there is none.
candidate() {
	LC_ALL=C apt-cache policy "$1" 2>/dev/null | sed -n 's/^  Candidate: \([^(].*\)/\1/p'
}

# apt-get as root, quietly; another apt may be at work on a machine that has just started.
apt_get() {
	root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@"
}

# The lists of packages, fetched once for this script and those that it starts.
apt_update() {
	[ -n "${APT_LISTS_ARE_NEW:-}" ] || apt_get update
	export APT_LISTS_ARE_NEW=1
}

# apt_install WHY PACKAGE...: installs what is not there yet, and says so first. Nothing
# that is there is upgraded.
apt_install() {
	local why=$1 package missing=()
	shift
	for package; do
		if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ] &&
			[[ " ${missing[*]} " != *" $package "* ]]; then
			missing+=("$package")
		fi
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	command -v apt-get >/dev/null ||
		die "finds no apt here; fix: install by other means what gives: ${missing[*]} ($why)"
	say "Installing ${missing[*]} ($why)."
	apt_update
	apt_get install -y --no-install-recommends --no-upgrade "${missing[@]}"
}

# --- Rust ----------------------------------------------------------------------------

min_rust=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$repo/Cargo.toml")

# Is there a rustc in PATH that can build this, and a cargo beside it?
rust_is_usable() {
	local have
	command -v cargo >/dev/null || return 1
	have=$(rustc --version 2>/dev/null | cut -d' ' -f2) || return 1
	[ -n "$have" ] && printf '%s\n' "$min_rust" "$have" | sort -V -C
}

# Puts a toolchain that is already installed into PATH: the caller's own, rustup's, or
# one of Ubuntu's versioned packages, which stay out of /usr/bin.
find_rust() {
	local bin path=$PATH
	rust_is_usable && return
	for bin in "${CARGO_HOME:-$HOME/.cargo}/bin" $(printf '%s\n' /usr/lib/rust-*/bin | sort -rV); do
		[ -x "$bin/cargo" ] || continue
		export PATH=$bin:$path
		rust_is_usable && return
	done
	export PATH=$path
	return 1
}

# The names under which a distribution ships Rust, each with the lints' packages: Debian's
# and Ubuntu's own, the newer one that Debian keeps in a stable release for browsers, and
# Ubuntu's versioned ones, newest first. One family a line: rustc cargo rustfmt clippy.
rust_packages() {
	local version
	echo rustc cargo rustfmt rust-clippy
	echo rustc-web cargo-web rustfmt-web rust-web-clippy
	for version in $(apt-cache search --names-only '^rustc-1\.[0-9]+$' | cut -d' ' -f1 | sed 's/^rustc-//' | sort -rV); do
		echo "rustc-$version cargo-$version rustfmt-$version rust-$version-clippy"
	done
}

# Makes sure that cargo and a new enough rustc are in PATH.
need_rust() {
	local rustc cargo rest version
	find_rust && return
	command -v apt-get >/dev/null ||
		die "needs Rust $min_rust or newer; fix: install rustc and cargo, or rustup, from your distribution"
	[ -n "$(candidate cargo)" ] || apt_update
	while read -r rustc cargo rest; do
		version=$(candidate "$rustc")
		if [ -n "$version" ] && [ -n "$(candidate "$cargo")" ] && dpkg --compare-versions "$version" ge "$min_rust"; then
			# cargo fetches crates by TLS, but only recommends the certificates.
			apt_install "there is no Rust $min_rust or newer here" "$rustc" "$cargo" ca-certificates
			find_rust && return
		fi
	done < <(rust_packages)
	if [ -n "$(candidate rustup)" ]; then
		apt_install "there is no Rust $min_rust or newer here" rustup ca-certificates
		run rustup toolchain install stable --profile minimal
		run rustup default stable
		find_rust && return
	fi
	die "needs Rust $min_rust or newer, and this distribution has neither that nor the package rustup; fix: install a toolchain with rustup, then run this again"
}

# Makes sure that cargo fmt and cargo clippy work, from where the toolchain came from.
need_rust_lints() {
	local rustc cargo rustfmt clippy owner
	if cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1; then
		return
	fi
	if command -v rustup >/dev/null; then
		run rustup component add rustfmt clippy
	elif command -v dpkg >/dev/null; then
		owner=$(dpkg -S "$(readlink -f "$(command -v rustc)")" 2>/dev/null | cut -d: -f1)
		while read -r rustc cargo rustfmt clippy; do
			if [ "$rustc" = "$owner" ]; then
				apt_install "cargo fmt and cargo clippy" "$rustfmt" "$clippy"
			fi
		done < <(rust_packages)
	fi
	if ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
		die "needs cargo fmt and cargo clippy; fix: install rustfmt and clippy for $(rustc --version)"
	fi
}

# --- the plain user ------------------------------------------------------------------

# Containers here always belong to a plain user: whoever calls, or, where that is root, a
# user made for it. `plain` is put in front of a command to run it as that user, with the
# environment of a fresh login and nothing of root's; for a plain caller it is empty.
set_plain() {
	plain_user=$1
	plain=(setpriv "--reuid=$1" "--regid=$1" --init-groups --inh-caps=-all --reset-env --)
}
plain_user=$(id -un)
# shellcheck disable=SC2034 # for those who source this
plain=()
if is_root; then
	set_plain "${BRYO_TEST_USER:-bryo-test}"
fi

# The first id above every range in /etc/subuid and /etc/subgid.
free_subids() {
	cat /etc/subuid /etc/subgid 2>/dev/null |
		awk -F: 'BEGIN { free = 100000 } $2 + $3 > free { free = $2 + $3 } END { print free }'
}

# Makes the user above where there is none, and gives it a range of subordinate ids.
# A plain caller without a range keeps what he has: to give him one is his decision.
need_plain_user() {
	local first
	is_root || return 0
	if ! id -u "$plain_user" >/dev/null 2>&1; then
		say "Making the plain user $plain_user, since containers are not to run as root here."
		run useradd --create-home --shell /bin/sh "$plain_user"
	fi
	if ! grep -q "^$plain_user:" /etc/subuid || ! grep -q "^$plain_user:" /etc/subgid; then
		first=$(free_subids)
		run usermod --add-subuids "$first-$((first + 65535))" --add-subgids "$first-$((first + 65535))" "$plain_user"
	fi
}

plain_home() { getent passwd "$plain_user" | cut -d: -f6; }

# allow_userns NAME PATTERN: Ubuntu lets a plain user's program use user namespaces only if
# an AppArmor profile says so. Where that is the case, loads one for the programs whose path
# matches the PATTERN; it allows this and confines nothing.
allow_userns() {
	local file=/etc/apparmor.d/bryo-$1 profile
	[ "$(cat /proc/sys/kernel/apparmor_restrict_unprivileged_userns 2>/dev/null)" = 1 ] || return 0
	profile=$(apparmor_profile "bryo-$1" "$2")
	[ "$(cat "$file" 2>/dev/null)" != "$profile" ] || return 0
	say "AppArmor keeps programs without a profile from using user namespaces here. For $2:"
	root sh -c "printf '%s\n' \"\$1\" >$file && apparmor_parser --replace $file" sh "$profile"
}

# apparmor_profile NAME PATTERN: its text.
apparmor_profile() {
	printf '%s\n' 'abi <abi/4.0>,' "profile $1 \"$2\" flags=(unconfined) {" '  userns,' '}'
}
