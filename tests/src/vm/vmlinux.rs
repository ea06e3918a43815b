//! The kernel inside the image that boots, which is compressed: an emulated machine takes seconds to undo that, this one takes
//! none, and QEMU starts such a kernel as it is (PVH).
//! Source: Documentation/arch/x86/boot.rst in the kernel tree.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// How a compressed kernel begins, and what decompresses it.
const FORMATS: [(&[u8], &str); 3] = [
    (b"\xfd7zXZ", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x02\x21\x4c\x18", "lz4"),
];
const SECTOR: usize = 512;
/// Places in the header: sectors of the part that runs first, and where the compressed kernel is behind them.
const SETUP_SECTORS: usize = 0x1f1;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

/// Unpacks the kernel of an image into `folder`; nothing where this machine has no program for its compression.
pub(super) fn unpack(image: &Path, folder: &Path) -> Result<Option<PathBuf>> {
    let bytes = fs::read(image).with_context(|| format!("reading {}", image.display()))?;
    let (packed, size) = payload(&bytes).with_context(|| format!("{} is no kernel", image.display()))?;
    let format = FORMATS.iter().find(|(magic, _)| packed.starts_with(magic));
    let (_, program) = format.with_context(|| format!("{}: unknown compression", image.display()))?;
    let (from, to) = (folder.join("vmlinux.packed"), folder.join("vmlinux"));
    fs::write(&from, packed).context("writing the compressed kernel")?;
    let started = Command::new(program)
        .args(["-d", "-c"])
        .stdin(File::open(&from)?)
        .stdout(File::create(&to)?)
        .status();
    fs::remove_file(&from)?;
    let Ok(status) = started else { return Ok(None) };
    ensure!(
        status.success(),
        "{program} does not decompress {}",
        image.display()
    );
    let unpacked = fs::metadata(&to)?.len();
    ensure!(
        unpacked == u64::from(size),
        "{program} made {unpacked} bytes, not {size}"
    );
    Ok(Some(to))
}

/// The compressed kernel, and the size of what is in it.
fn payload(image: &[u8]) -> Option<(&[u8], u32)> {
    let number = |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?));
    // None stands for four, as it always has.
    let sectors = match image.get(SETUP_SECTORS)? {
        0 => 4,
        sectors => usize::from(*sectors),
    };
    let begin = (sectors + 1) * SECTOR + usize::try_from(number(PAYLOAD_OFFSET)?).ok()?;
    let length = usize::try_from(number(PAYLOAD_LENGTH)?).ok()?;
    let payload = image.get(begin..begin + length)?;
    let (packed, size) = payload.split_last_chunk()?;
    Some((packed, u32::from_le_bytes(*size)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_kernel_in_its_image() {
        let mut image = vec![0; 2 * SECTOR + 7];
        image[SETUP_SECTORS] = 1;
        image[PAYLOAD_OFFSET] = 7;
        image[PAYLOAD_LENGTH] = 9;
        image.extend(b"\x28\xb5\x2f\xfd!");
        image.extend([3, 2, 1, 0]);
        assert_eq!(payload(&image), Some((&b"\x28\xb5\x2f\xfd!"[..], 0x0001_0203)));
        assert_eq!(payload(&image[..image.len() - 1]), None);
        assert_eq!(payload(&[]), None);
    }
}
