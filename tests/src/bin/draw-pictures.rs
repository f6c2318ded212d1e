//! Draws the pictures of the documents again, from the data in the tree.

use std::error::Error;
use std::path::Path;

use system_tests::pictures;

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("the tree has no root")?;
    for picture in pictures::all(root)? {
        let file = root.join(&picture.file);
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let is_new = std::fs::read_to_string(&file).ok().as_ref() != Some(&picture.svg);
        if is_new {
            std::fs::write(&file, &picture.svg)?;
        }
        println!("{} {}", if is_new { "drawn" } else { "as is" }, picture.file.display());
    }
    Ok(())
}
