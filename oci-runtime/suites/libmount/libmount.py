"""The little of libmount's Python module that crun's tests of mounts ask for; no Debian package has it."""


class Mount:
    """One line of /proc/PID/mountinfo (proc_pid_mountinfo(5))."""

    def __init__(self, line):
        mount, system = line.rstrip("\n").split(" - ", 1)
        self.target = mount.split(" ")[4]
        self.vfs_options = mount.split(" ")[5]
        self.fs_options = system.split(" ")[2]


class Table:
    """A file of such lines."""

    def __init__(self, path):
        with open(path) as lines:
            self.mounts = [Mount(line) for line in lines if " - " in line]

    def find_target(self, target):
        """The uppermost mount there."""
        return next(mount for mount in reversed(self.mounts) if mount.target == target)
