//! The names that the requests of a cell ask for, where they are spread over the adapters of a model.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;

/// What stands at the beginning of a body: `{"model":"sql-lora"`, for each adapter with its share.
#[derive(Clone, Debug, Default)]
pub(super) struct Adapters {
    /// `{"model":"m"`: what is replaced.
    model: String,
    /// Each adapter, in the order of the shares.
    all: Vec<Adapter>,
}

/// One adapter.
#[derive(Clone, Debug)]
struct Adapter {
    /// The sum of the shares up to it; that of the last is 1.
    sum: f64,
    beginning: String,
    name: Arc<str>,
}

impl Adapters {
    /// The adapters of a model by weight; without any, the model itself is asked for.
    pub(super) fn of(model: &str, weights: &[(String, f64)]) -> Adapters {
        let beginning = |name: &str| format!("{{\"model\":{}", json!(name));
        let all: f64 = weights.iter().map(|(_, weight)| weight).sum();
        let mut sum = 0.0;
        let share = |(name, weight): &(String, f64)| {
            sum += weight / all;
            Adapter {
                sum,
                beginning: beginning(name),
                name: name.as_str().into(),
            }
        };
        Adapters {
            model: beginning(model),
            all: weights.iter().map(share).collect(),
        }
    }

    /// Whether there are any.
    pub(super) fn are_there(&self) -> bool {
        !self.all.is_empty()
    }

    /// The same body for the adapter that `draw`, from 0 to 1, falls to, and its name. A body that names another model keeps it.
    pub(super) fn put(&self, body: Bytes, draw: f64) -> (Bytes, Option<Arc<str>>) {
        let chosen = self.all.iter().find(|adapter| draw < adapter.sum);
        let rest = body.strip_prefix(self.model.as_bytes());
        match (chosen.or(self.all.last()), rest) {
            (
                Some(Adapter {
                    beginning, name, ..
                }),
                Some(rest),
            ) => {
                let body = [beginning.as_bytes(), rest].concat();
                (body.into(), Some(name.clone()))
            }
            _ => (body, None),
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
        let put = |draw| {
            let (body, name) = adapters.put(body.clone(), draw);
            (String::from_utf8(body.to_vec()).unwrap(), name.unwrap())
        };
        let sql = "{\"model\":\"sql\",\"max_tokens\":4}".to_owned();
        assert_eq!(put(0.0), (sql.clone(), "sql".into()));
        assert_eq!(put(0.2499), (sql, "sql".into()));
        let chat = "{\"model\":\"chat \\\"b\\\"\",\"max_tokens\":4}".to_owned();
        assert_eq!(put(0.25), (chat, "chat \"b\"".into()));
        assert_eq!(put(1.0), put(0.25));
        // What `request.extra` asks for wins.
        let other = Bytes::from_static(b"{\"model\":\"other\"}");
        assert_eq!(adapters.put(other.clone(), 0.5), (other, None));
        let none = Adapters::of("base", &[]);
        assert_eq!(none.put(body.clone(), 0.5), (body, None));
    }
}
