//! `scenario dataset generate`: a set that a model writes.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use super::super::console::Console;
use super::super::exit::Exit;
use super::super::quick::with_scheme;
use super::args::GenerateArgs;
use super::prepare::write;
use crate::workload::{Prompt, canonical_line};

/// How often a category is asked for before what came is all that comes.
const ATTEMPTS: u32 = 3;
/// What a model may write at most in one answer.
const ANSWER_TOKENS: u32 = 4000;
const PATIENCE: Duration = Duration::from_secs(180);

pub(super) fn generate(args: &GenerateArgs, console: &Console) -> anyhow::Result<Exit> {
    let model = Model::of(args)?;
    let categories: Vec<&str> = args.categories.iter().map(|name| name.trim()).collect();
    if let Some(name) = categories.iter().find(|name| name.is_empty()) {
        anyhow::bail!("`{name}` is no name of a category");
    }
    if (args.count as usize) < categories.len() {
        anyhow::bail!(
            "{} prompts for {} categories: ask for more, or for fewer kinds",
            args.count,
            categories.len()
        );
    }
    let mut prompts: Vec<Prompt> = Vec::new();
    for (at, category) in categories.iter().enumerate() {
        // The first categories get what is left over.
        let share = args.count / categories.len() as u32;
        let wanted = share + u32::from((at as u32) < args.count % categories.len() as u32);
        let written = model.write(category, wanted as usize, args.max_tokens)?;
        console.talk(&format!("{category}: {}", written.len()));
        prompts.extend(written);
    }
    let lines: String = prompts
        .iter()
        .map(|prompt| canonical_line(prompt) + "\n")
        .collect();
    write(&args.out, &lines, args.force)?;
    console.talk(&format!(
        "wrote {} prompts to {}",
        prompts.len(),
        args.out.display()
    ));
    Ok(Exit::Passed)
}

/// The model that writes.
struct Model {
    agent: ureq::Agent,
    url: String,
    name: String,
    key: Option<String>,
    temperature: f64,
}

impl Model {
    fn of(args: &GenerateArgs) -> anyhow::Result<Model> {
        let key = match &args.api_key_env {
            None => None,
            Some(name) => match std::env::var(name).ok().filter(|key| !key.is_empty()) {
                Some(key) => Some(key),
                None => anyhow::bail!("the environment variable `{name}` is not set"),
            },
        };
        let base = with_scheme(args.base_url.trim_end_matches('/'))?;
        let version = if base.ends_with("/v1") { "" } else { "/v1" };
        Ok(Model {
            agent: ureq::Agent::config_builder()
                .timeout_global(Some(PATIENCE))
                .http_status_as_error(false)
                .build()
                .into(),
            url: format!("{base}{version}/chat/completions"),
            name: args.model.clone(),
            key,
            temperature: args.temperature,
        })
    }

    /// So many prompts of a category, no two alike.
    fn write(&self, category: &str, wanted: usize, max_tokens: u32) -> anyhow::Result<Vec<Prompt>> {
        let mut prompts: Vec<Prompt> = Vec::new();
        let mut known = BTreeSet::new();
        let mut wrong = None;
        for _ in 0..ATTEMPTS {
            let missing = wanted - prompts.len();
            match read(&self.ask(category, missing, max_tokens)?, max_tokens) {
                Err(message) => wrong = Some(message),
                Ok(written) => {
                    for (text, max_tokens) in written {
                        if prompts.len() < wanted && known.insert(text.clone()) {
                            let id = format!("{category}_{}", prompts.len());
                            prompts.push(Prompt {
                                category: Some(category.into()),
                                max_tokens: Some(max_tokens),
                                ..Prompt::new(id, text)
                            });
                        }
                    }
                }
            }
            if prompts.len() == wanted {
                return Ok(prompts);
            }
        }
        let why = wrong.map_or(String::new(), |message| format!("; an answer {message}"));
        anyhow::bail!(
            "`{}` wrote {} of {wanted} prompts of `{category}` in {ATTEMPTS} attempts{why}",
            self.name,
            prompts.len()
        )
    }

    /// The text of an answer.
    fn ask(&self, category: &str, count: usize, max_tokens: u32) -> anyhow::Result<String> {
        let task = format!(
            "Write {count} prompts that people would send to an assistant, all of the category \"{category}\", different in topic and \
             in length. Answer with a JSON list alone. Each element is an object with `prompt`, the text, and `max_tokens`, a number \
             between 50 and {max_tokens}: how many tokens a sensible answer has at most."
        );
        let body = json!({
            "model": self.name,
            "messages": [{ "role": "user", "content": task }],
            "max_tokens": ANSWER_TOKENS,
            "temperature": self.temperature,
        });
        let mut request = self.agent.post(&self.url);
        if let Some(key) = &self.key {
            request = request.header("authorization", &format!("Bearer {key}"));
        }
        let mut answer = request
            .header("content-type", "application/json")
            .send(body.to_string())
            .with_context(|| format!("cannot ask {}", self.url))?;
        let text = answer
            .body_mut()
            .read_to_string()
            .with_context(|| format!("{} broke off its answer", self.url))?;
        if !answer.status().is_success() {
            let start: String = text.chars().take(300).collect();
            anyhow::bail!("{} answered {}: {start}", self.url, answer.status());
        }
        let told: Value = serde_json::from_str(&text)
            .with_context(|| format!("{} did not answer in JSON", self.url))?;
        let said = told["choices"][0]["message"]["content"].as_str();
        said.map(str::to_owned)
            .with_context(|| format!("{} answered without a text", self.url))
    }
}

/// The prompts in what a model wrote, each with its cap; or what is wrong with it.
fn read(answer: &str, most: u32) -> Result<Vec<(String, u32)>, String> {
    let list = answer
        .find('[')
        .zip(answer.rfind(']'))
        .filter(|(from, to)| from < to)
        .map(|(from, to)| &answer[from..=to])
        .ok_or("holds no JSON list")?;
    let rows: Vec<Value> =
        serde_json::from_str(list).map_err(|error| format!("holds no JSON list: {error}"))?;
    rows.iter()
        .map(|row| {
            let text = row["prompt"].as_str().or(row.as_str()).unwrap_or("").trim();
            if text.is_empty() {
                return Err(format!("has an element without `prompt`: {row}"));
            }
            let asked = row["max_tokens"].as_u64().unwrap_or(u64::from(most));
            let max_tokens = u32::try_from(asked).unwrap_or(most).clamp(1, most);
            Ok((text.to_owned(), max_tokens))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_writes_around_its_list_does_not_matter() {
        let answer = "Here you are:\n```json\n[{\"prompt\": \" One? \", \"max_tokens\": 80}, \"Two?\", {\"prompt\": \"Three?\", \"max_tokens\": 9000}]\n```";
        let told = read(answer, 300).unwrap();
        let prompts = [("One?", 80), ("Two?", 300), ("Three?", 300)];
        assert_eq!(told, prompts.map(|(text, cap)| (text.to_owned(), cap)));
    }

    #[test]
    fn what_is_no_list_of_prompts_is_told() {
        assert_eq!(read("I cannot.", 300).unwrap_err(), "holds no JSON list");
        let cut = read("[{\"prompt\": \"a\"}, {\"prom]", 300).unwrap_err();
        assert!(cut.starts_with("holds no JSON list: EOF"), "{cut}");
        assert_eq!(
            read("[{\"text\": \"a\"}]", 300).unwrap_err(),
            "has an element without `prompt`: {\"text\":\"a\"}"
        );
    }
}
