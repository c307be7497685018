//! Text into HTML and back out of it.
//!
//! Knows nothing of: results.

use anyhow::{Context, Result};

/// Text that can neither end nor begin an element, nor end an attribute.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Other control characters are no HTML; a bench has no use for them.
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    out
}

const BEGIN: &str = r#"<script type="application/json" id="result">"#;
const END: &str = "</script>";

/// An element that carries JSON. Within it `<` is written `\u003c`, which JSON reads back: nothing in there can end the element.
pub(super) fn json_element(json: &str) -> String {
    format!("{BEGIN}{}{END}", json.replace('<', "\\u003c"))
}

/// The JSON that [`json_element`] put into a page.
pub(super) fn json_of(page: &str) -> Result<&str> {
    let (_, rest) = page.split_once(BEGIN).context("it has no element with the id `result`")?;
    let (json, _) = rest.split_once(END).context("its JSON has no end: the file is cut off")?;
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_the_json_can_end_its_element() {
        let json = serde_json::to_string("a </script><!-- <script> & \u{2028} é").unwrap();
        let page = format!("<p>before</p>{}<p>after</p>", json_element(&json));
        assert_eq!(page.matches("</script>").count(), 1);
        let back: String = serde_json::from_str(json_of(&page).unwrap()).unwrap();
        assert_eq!(back, "a </script><!-- <script> & \u{2028} é");
    }

    #[test]
    fn a_page_that_is_cut_off_says_so() {
        let page = json_element("{}");
        assert!(json_of(&page[..page.len() - 4]).unwrap_err().to_string().contains("cut off"));
        assert!(json_of("<p>").unwrap_err().to_string().contains("`result`"));
    }

    #[test]
    fn text_is_text() {
        assert_eq!(escape("<b a='1' c=\"2\">&\u{7}\n"), "&lt;b a=&#39;1&#39; c=&quot;2&quot;&gt;&amp;\u{FFFD}\n");
    }
}
