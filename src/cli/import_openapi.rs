//! `countersign apps import-openapi`: a definition from an OpenAPI document, to read and to keep.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, bail};

use super::load_or_explain;
use crate::catalog::openapi::{self, Derived, MAX_BYTES, Wishes};
use crate::serve::{self, Source};

#[derive(clap::Args)]
pub struct Args {
    /// A file, or an https:// URL: OpenAPI 2.0, 3.0 or 3.1 as JSON or YAML
    document: String,
    /// The app's id, instead of one made of the document's title
    #[arg(long)]
    id: Option<String>,
    /// Where the document was published, for addresses in it that are relative
    #[arg(long, value_name = "URL")]
    from: Option<String>,
    /// Write the definition to this file (in `apps_dir`) instead of printing it
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub async fn run(args: &Args, source: &Source, out: &mut impl Write) -> anyhow::Result<u8> {
    let (text, url) = read(args, source).await?;
    let url = args.from.clone().or(url);
    let wishes = Wishes { id: args.id.as_deref(), url: url.as_deref() };
    let derived = openapi::derive(&text, wishes)?;
    let toml = with_remarks(&derived);
    match &args.output {
        None => write!(out, "{toml}")?,
        Some(path) if path.exists() => bail!("{} is there already", path.display()),
        Some(path) => {
            std::fs::write(path, toml).with_context(|| path.display().to_string())?;
            writeln!(out, "{} holds {}; read it before you use it", path.display(), derived.id)?;
        }
    }
    Ok(0)
}

async fn read(args: &Args, source: &Source) -> anyhow::Result<(String, Option<String>)> {
    if args.document.contains("://") {
        let config = load_or_explain(source)?.config;
        let (text, url) = serve::document(&config, &args.document, MAX_BYTES).await?;
        return Ok((text, Some(url)));
    }
    let size = std::fs::metadata(&args.document).with_context(|| args.document.clone())?.len();
    if size > MAX_BYTES as u64 {
        bail!("{} is larger than {MAX_BYTES} bytes", args.document);
    }
    let text = std::fs::read_to_string(&args.document).with_context(|| args.document.clone())?;
    Ok((text, None))
}

/// What the document does not say stands above what it says.
fn with_remarks(derived: &Derived) -> String {
    let mut text = String::new();
    for remark in &derived.remarks {
        let plain: String = remark.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        text.push_str(&format!("# To check: {plain}\n"));
    }
    text.push_str(&derived.toml);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remarks_are_comments_whatever_the_document_says() {
        let remarks = vec!["a\nid = \"evil\"".to_owned()];
        let derived = Derived { id: "a".into(), toml: "id = \"a\"\n".into(), remarks };
        assert_eq!(with_remarks(&derived), "# To check: a id = \"evil\"\nid = \"a\"\n");
    }
}
