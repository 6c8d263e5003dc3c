//! The names that the requests of a cell ask for, where they are spread over the adapters of a model.

use bytes::Bytes;
use serde_json::json;

/// What stands at the beginning of a body: `{"model":"sql-lora"`, for each adapter with its share.
#[derive(Clone, Debug, Default)]
pub(super) struct Adapters {
    /// `{"model":"m"`: what is replaced.
    model: String,
    /// Each adapter's beginning, and the sum of the shares up to it, the last of which is 1.
    beginnings: Vec<(f64, String)>,
}

impl Adapters {
    /// The adapters of a model by weight; without any, the model itself is asked for.
    pub(super) fn of(model: &str, weights: &[(String, f64)]) -> Adapters {
        let beginning = |name: &str| format!("{{\"model\":{}", json!(name));
        let all: f64 = weights.iter().map(|(_, weight)| weight).sum();
        let mut sum = 0.0;
        let share = |(name, weight): &(String, f64)| {
            sum += weight / all;
            (sum, beginning(name))
        };
        Adapters {
            model: beginning(model),
            beginnings: weights.iter().map(share).collect(),
        }
    }

    /// Whether there are any.
    pub(super) fn are_there(&self) -> bool {
        !self.beginnings.is_empty()
    }

    /// The same body for the adapter that `draw`, from 0 to 1, falls to. A body that names another model keeps it.
    pub(super) fn put(&self, body: Bytes, draw: f64) -> Bytes {
        let chosen = self.beginnings.iter().find(|(sum, _)| draw < *sum);
        let Some((_, beginning)) = chosen.or(self.beginnings.last()) else {
            return body;
        };
        match body.strip_prefix(self.model.as_bytes()) {
            Some(rest) => [beginning.as_bytes(), rest].concat().into(),
            None => body,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_falls_to_the_adapter_whose_share_it_is_in() {
        let weights = [("sql".to_owned(), 1.0), ("chat \"b\"".to_owned(), 3.0)];
        let adapters = Adapters::of("base", &weights);
        let body = Bytes::from_static(b"{\"model\":\"base\",\"max_tokens\":4}");
        let put = |draw| String::from_utf8(adapters.put(body.clone(), draw).to_vec()).unwrap();
        assert_eq!(put(0.0), "{\"model\":\"sql\",\"max_tokens\":4}");
        assert_eq!(put(0.2499), "{\"model\":\"sql\",\"max_tokens\":4}");
        assert_eq!(put(0.25), "{\"model\":\"chat \\\"b\\\"\",\"max_tokens\":4}");
        assert_eq!(put(1.0), put(0.25));
        // What `request.extra` asks for wins.
        let other = Bytes::from_static(b"{\"model\":\"other\"}");
        assert_eq!(adapters.put(other.clone(), 0.5), other);
        assert_eq!(Adapters::of("base", &[]).put(body.clone(), 0.5), body);
    }
}
