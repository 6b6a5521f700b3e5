//! Who can change the configuration file? A user who can write it chooses where app secrets are sent (`wechat.api_base`), so a file
//! that another user owns, or can write, is refused, as ssh and sudo refuse theirs.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::{ConfigError, Distrust};

/// Anybody in the file's group may write.
const GROUP_WRITES: u32 = 0o020;
/// Anybody may write.
const OTHERS_WRITE: u32 = 0o002;
/// In such a folder (`/tmp`) only its owner can replace or rename a file.
const STICKY: u32 = 0o1000;

/// The shipped example, with all its comments, is a hundredth of this; a device never ends.
const MAX_BYTES: u64 = 1024 * 1024;

/// How we came to read the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// An operator named it (`--config`, `WECHAT_NOTIFIER_CONFIG`).
    Named,
    /// It is in the current folder, which may belong to anybody.
    Found,
}

/// Reads the file, if only root and ourselves can change its content.
pub(super) fn read(path: &Path, choice: Choice) -> Result<String, ConfigError> {
    let unreadable =
        |source| ConfigError::Unreadable { what: "the configuration file", path: path.to_owned(), source };
    if choice == Choice::Found && !path.metadata().map_err(unreadable)?.is_file() {
        // Opening a pipe without a writer would hang every command that is run in this folder.
        return Err(unreadable(std::io::Error::other("it is not a regular file")));
    }
    // Judged by the open file, so that it cannot be exchanged between the look and the reading.
    let mut file = File::open(path).map_err(unreadable)?;
    let facts = Facts::of(path, &file).map_err(unreadable)?;
    let me = rustix::process::geteuid().as_raw();
    facts
        .judge(me, choice)
        .map_err(|distrust| ConfigError::Distrusted { path: path.to_owned(), distrust })?;
    let mut text = String::new();
    (&mut file).take(MAX_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(unreadable(std::io::Error::other(format!("it is larger than {MAX_BYTES} bytes"))));
    }
    Ok(text)
}

/// The properties of a file that decide whether to trust it.
#[derive(Debug, Clone)]
struct Facts {
    owner: u32,
    group: u32,
    mode: u32,
    /// Pipes and devices have modes that say nothing about who fills them.
    is_regular: bool,
    /// Owner of the symbolic link through which it was reached.
    link_owner: Option<u32>,
    folder: PathBuf,
    folder_mode: u32,
    /// Its file system is mounted read-only, as Kubernetes mounts configuration (in folders of mode 0777).
    is_read_only: bool,
}

impl Facts {
    fn of(path: &Path, file: &File) -> std::io::Result<Self> {
        let of_file: Metadata = file.metadata()?;
        let of_path = path.symlink_metadata()?;
        let folder = folder_of(path);
        let is_regular = of_file.is_file();
        Ok(Self {
            owner: of_file.uid(),
            group: of_file.gid(),
            mode: of_file.mode() & 0o7777,
            is_regular,
            link_owner: of_path.is_symlink().then(|| of_path.uid()),
            folder_mode: if is_regular { folder.metadata()?.mode() & 0o7777 } else { 0 },
            folder,
            is_read_only: rustix::fs::fstatvfs(file)?.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
        })
    }

    /// Trusted are root and the user `me` that this process runs as.
    fn judge(&self, me: u32, choice: Choice) -> Result<(), Distrust> {
        // Mounting takes an administrator, and nobody here can write there. The owner's number may come from another
        // machine (a container's mount), so it is ignored where an operator named the file.
        if self.is_read_only && choice == Choice::Named {
            return Ok(());
        }
        let is_foreign = |owner: u32| owner != 0 && owner != me;
        if let Some(owner) = self.link_owner.filter(|owner| is_foreign(*owner)) {
            return Err(Distrust::Link { owner, me });
        }
        if is_foreign(self.owner) {
            return Err(Distrust::Owner { owner: self.owner, me });
        }
        if !self.is_regular || self.is_read_only {
            return Ok(());
        }
        // A group of the owner's own number is the owner's private group: systems with umask 002 make such files.
        let by_group = self.mode & GROUP_WRITES != 0 && self.group != self.owner;
        if by_group || self.mode & OTHERS_WRITE != 0 {
            return Err(Distrust::Writable { mode: self.mode });
        }
        if self.folder_mode & OTHERS_WRITE != 0 && self.folder_mode & STICKY == 0 {
            return Err(Distrust::Folder { folder: self.folder.clone(), mode: self.folder_mode });
        }
        Ok(())
    }
}

/// The folder in which the file itself lies, not the link to it.
fn folder_of(path: &Path) -> PathBuf {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    real.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: u32 = 1000;

    fn facts(owner: u32, mode: u32) -> Facts {
        Facts {
            owner,
            group: owner,
            mode,
            is_regular: true,
            link_owner: None,
            folder: "/etc".into(),
            folder_mode: 0o755,
            is_read_only: false,
        }
    }

    fn found(facts: &Facts) -> Result<(), Distrust> {
        facts.judge(ME, Choice::Found)
    }

    #[test]
    fn only_root_and_ourselves_may_own_it() {
        assert_eq!(found(&facts(0, 0o644)), Ok(()));
        assert_eq!(found(&facts(ME, 0o600)), Ok(()));
        for choice in [Choice::Found, Choice::Named] {
            assert_eq!(facts(7, 0o600).judge(ME, choice), Err(Distrust::Owner { owner: 7, me: ME }));
        }
        let link = Facts { link_owner: Some(7), ..facts(0, 0o644) };
        assert_eq!(found(&link), Err(Distrust::Link { owner: 7, me: ME }));
    }

    #[test]
    fn nobody_else_may_write_it_but_a_private_group_is_nobody_else() {
        assert_eq!(found(&facts(ME, 0o646)), Err(Distrust::Writable { mode: 0o646 }));
        assert_eq!(found(&facts(ME, 0o664)), Ok(()));
        let shared = Facts { group: 50, ..facts(ME, 0o664) };
        assert_eq!(found(&shared), Err(Distrust::Writable { mode: 0o664 }));
        let readable = Facts { group: 50, ..facts(0, 0o640) };
        assert_eq!(found(&readable), Ok(()));
    }

    #[test]
    fn nobody_else_may_replace_it() {
        let in_folder = |folder_mode| found(&Facts { folder_mode, ..facts(ME, 0o600) });
        assert_eq!(in_folder(0o777), Err(Distrust::Folder { folder: "/etc".into(), mode: 0o777 }));
        assert_eq!((in_folder(0o1777), in_folder(0o775)), (Ok(()), Ok(())));
    }

    #[test]
    fn what_is_mounted_read_only_is_written_by_nobody() {
        let mounted = Facts { is_read_only: true, folder_mode: 0o777, ..facts(0, 0o666) };
        assert_eq!(found(&mounted), Ok(()), "a Kubernetes mount in the working folder");
        let of_another_machine = Facts { owner: 7, ..mounted };
        assert_eq!(of_another_machine.judge(ME, Choice::Named), Ok(()));
        assert_eq!(found(&of_another_machine), Err(Distrust::Owner { owner: 7, me: ME }));
    }

    #[test]
    fn a_pipe_or_a_device_is_judged_by_its_owner_alone() {
        let pipe = Facts { is_regular: false, ..facts(ME, 0o622) };
        assert_eq!(found(&pipe), Ok(()));
    }
}
