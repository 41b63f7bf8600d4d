use super::Cgroup;
pub fn attach(_c: &Cgroup, _r: &[oci_spec::runtime::LinuxDeviceCgroup]) -> crate::sys::Result<()> {
    Ok(())
}
