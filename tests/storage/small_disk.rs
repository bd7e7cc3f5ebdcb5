//! A disk of a few mebibytes that can be filled up.
//!
//! Owns a child process in a mount namespace of its own, in which a small tmpfs is mounted; nobody
//! else sees it, and it goes with the child. It is reached through the child's `/proc/PID/root`.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub(crate) struct SmallDisk {
    holder: Child,
    root: PathBuf,
}

impl SmallDisk {
    /// A disk of `mebibytes`. None, and the reason printed, where nobody may mount one.
    pub(crate) fn mount(mebibytes: usize) -> Option<SmallDisk> {
        let script = format!(
            "mount -t tmpfs -o size={mebibytes}m,mode=0700 corebeat /mnt && echo mounted && cat"
        );
        // The end of its input is the end of the holder, and so of the disk.
        let holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut holder = match holder {
            Ok(holder) => holder,
            Err(error) => {
                println!("skipped: unshare cannot be run ({error})");
                return None;
            }
        };
        let mut line = String::new();
        let told = holder.stdout.take().expect("it is piped");
        if BufReader::new(told).read_line(&mut line).is_err() || line != "mounted\n" {
            let _ = holder.wait();
            println!("skipped: mounting a file system in a namespace is not permitted here");
            return None;
        }
        // The holder's root, seen from outside of its namespace (proc(5)).
        let root = ["/proc", &holder.id().to_string(), "root", "mnt"].iter().collect();
        Some(SmallDisk { holder, root })
    }

    /// Where it is.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    fn ballast(&self) -> PathBuf {
        self.root.join("ballast")
    }

    /// Takes all space that is left.
    pub(crate) fn fill(&self) {
        let mut ballast = File::options().create(true).append(true).open(self.ballast()).unwrap();
        let mut step = 1 << 20;
        while step > 0 {
            match ballast.write(&vec![7; step]) {
                Ok(written) if written == step => {}
                _ => step /= 2,
            }
        }
    }

    /// Gives it back.
    pub(crate) fn relieve(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
