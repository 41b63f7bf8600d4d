//! criu's log, from which its errors come: what it answers is only that there was one.

/// As many errors as go on a line. The first says what is wrong, the next ones where that hurt.
const TOLD: usize = 3;

/// Errors that are about no container: criu goes on after the first, and the others say that it stopped.
const NOISE: [&str; 4] = ["RLIMIT_NOFILE", "Dumping FAILED", "Restoring FAILED", "Pre-dumping FAILED"];

/// The errors of a log, on one line; empty where it has none.
pub fn errors(log: &[u8]) -> String {
    let text = String::from_utf8_lossy(log);
    let mut told: Vec<&str> = Vec::new();
    for error in text.lines().filter_map(error) {
        if told.len() < TOLD && !told.contains(&error) && !NOISE.iter().any(|noise| error.contains(noise)) {
            told.push(error);
        }
    }
    told.join(", ")
}

/// `(00.1234)    42: Error (criu/files.c:42): what is wrong`: the last part. Who restores says its pid in between.
fn error(line: &str) -> Option<&str> {
    let (before, rest) = line.split_once("Error (")?;
    let prefix = before
        .trim_start_matches(['(', ')', '.', ' ', ':', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
    if !prefix.is_empty() && prefix != "pie: " {
        return None;
    }
    Some(rest.split_once("): ")?.1.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_without_what_is_always_there() {
        let log = b"(00.000001) Version: 4.1\n\
            (00.062804) Error (criu/util.c:1533): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted\n\
            (00.077541) Error (criu/files-reg.c:1790): Can't lookup mount=24 for fd=10 path=/dev/null\n\
            (00.077606)      1: Error (criu/mount.c:1): of a task\n\
            (00.077606)      1: Error (criu/mount.c:1): of a task\n\
            (00.1) Warn  (criu/x.c:1): Error (never mind): no\n\
            (00.093965) Error (criu/cr-dump.c:2111): Dumping FAILED.\n";
        assert_eq!(errors(log), "Can't lookup mount=24 for fd=10 path=/dev/null, of a task");
        assert_eq!(errors(b"\xff\n"), "");
    }
}
