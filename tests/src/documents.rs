//! The project's pages, and the blocks in them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::programs;

/// The text of a page.
pub fn document(name: &str) -> Result<String> {
    let path = programs::workspace().join(name);
    fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

/// Every page. README.md first: the others build on what it leaves.
pub fn pages() -> Result<Vec<String>> {
    let mut names = vec!["README.md".to_owned(), "CONTRIBUTING.md".to_owned()];
    let mut pages = Vec::new();
    for page in fs::read_dir(programs::workspace().join("docs"))? {
        let name = page?.file_name().to_string_lossy().into_owned();
        if Path::new(&name)
            .extension()
            .is_some_and(|extension| extension == "md")
        {
            pages.push(format!("docs/{name}"));
        }
    }
    pages.sort();
    names.extend(pages);
    Ok(names)
}

/// The blocks of a document that are marked with `language`.
#[must_use]
pub fn blocks(document: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        if line.strip_prefix("```") == Some(language) {
            let block = lines.by_ref().take_while(|line| *line != "```");
            found.push(block.flat_map(|line| [line, "\n"]).collect());
        }
    }
    found
}
