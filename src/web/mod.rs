//! What a browser is given: the chat at `/`, the dashboard beside it, and the client script.
//!
//! Owns the list of files that are built into the program and what each is served as. Never
//! decides what a request is answered with: the heart looks a path up in [`ASSETS`]. The folder
//! is also an npm package, so that programs on Node can use the same `corebeat.js`.

pub use crate::wire::http::Asset;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
/// TypeScript declarations have no type of their own; as plain text a browser shows them.
const PLAIN: &str = "text/plain; charset=utf-8";

/// The page. Both of its addresses get the same document: its script shows the tab that the
/// address names, so that going from one to the other keeps the connection.
const PAGE: &[u8] = include_bytes!("index.html");

/// Every file, each under the one path that it is asked for by.
///
/// The document at `/` refers to all others by these paths, and none refers to another origin: a
/// `Content-Security-Policy` of `default-src 'self'` is enough for it, without inline scripts or
/// styles. `/ws` and `/stats` are answered by the heart and are not here.
pub const ASSETS: &[Asset] = &[
    Asset { path: "/", content_type: HTML, bytes: PAGE },
    Asset { path: "/dashboard", content_type: HTML, bytes: PAGE },
    Asset { path: "/page.css", content_type: CSS, bytes: include_bytes!("page.css") },
    script("/page.js", include_bytes!("page.js")),
    script("/page/charts.js", include_bytes!("page/charts.js")),
    script("/page/chat.js", include_bytes!("page/chat.js")),
    script("/page/conversation.js", include_bytes!("page/conversation.js")),
    script("/page/dashboard.js", include_bytes!("page/dashboard.js")),
    script("/page/dom.js", include_bytes!("page/dom.js")),
    script("/page/frame.js", include_bytes!("page/frame.js")),
    script("/page/messages.js", include_bytes!("page/messages.js")),
    script("/page/numbers.js", include_bytes!("page/numbers.js")),
    script("/page/text.js", include_bytes!("page/text.js")),
    script("/corebeat.js", include_bytes!("corebeat.js")),
    Asset { path: "/corebeat.d.ts", content_type: PLAIN, bytes: include_bytes!("corebeat.d.ts") },
    Asset { path: "/favicon.svg", content_type: SVG, bytes: include_bytes!("favicon.svg") },
];

const fn script(path: &'static str, bytes: &'static [u8]) -> Asset {
    Asset { path, content_type: SCRIPT, bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the files may take up together that a phone on a poor link has to load.
    const ALL_BYTES_MAX: usize = 150 << 10;

    #[test]
    fn every_path_is_there_once_and_has_a_body() {
        let mut paths: Vec<&str> = ASSETS.iter().map(|asset| asset.path).collect();
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths.len(), ASSETS.len());
        assert!(ASSETS.iter().all(|asset| asset.path.starts_with('/') && !asset.bytes.is_empty()));
    }

    #[test]
    fn the_page_is_small() {
        // Types are for those who program, and no page loads them.
        let loaded = ASSETS.iter().filter(|asset| !asset.path.ends_with(".d.ts"));
        let bytes: usize = loaded.map(|asset| asset.bytes.len()).sum();
        assert!(bytes < ALL_BYTES_MAX, "{bytes} bytes");
    }

    #[test]
    fn the_files_refer_to_each_other_and_to_nobody_else() {
        let text = |asset: &Asset| std::str::from_utf8(asset.bytes).expect("UTF-8").to_owned();
        let page = text(&ASSETS[0]);
        for (mark, file) in [("src=\"", "page.js"), ("href=\"", "page.css")] {
            assert!(page.contains(&format!("{mark}/{file}\"")), "{file}");
        }
        for inline in ["<style", " style=", "<script>", " onclick=", "javascript:"] {
            assert!(!page.contains(inline), "{inline}: the policy forbids it");
        }
        for asset in ASSETS.iter().filter(|asset| asset.content_type == SCRIPT) {
            let folder = asset.path.rsplit_once('/').expect("a slash").0;
            for import in text(asset).split(" from '").skip(1) {
                let file = import.split('\'').next().expect("a quote ends it");
                let path = match file.strip_prefix("../") {
                    Some(above) => format!("/{above}"),
                    None => format!("{folder}/{}", file.strip_prefix("./").expect("relative")),
                };
                assert!(ASSETS.iter().any(|other| other.path == path), "{path}");
            }
        }
    }
}
