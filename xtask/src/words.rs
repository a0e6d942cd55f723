//! Our own words: names, labels, categories, and one line about what an app is for.

use std::collections::BTreeSet;

/// Written the same everywhere, whatever a source says.
const SPELLINGS: [&str; 80] = [
    "API",
    "URL",
    "URI",
    "SID",
    "HTTP",
    "HTTPS",
    "DNS",
    "CRM",
    "SQL",
    "AWS",
    "ERP",
    "XML",
    "JSON",
    "OAuth",
    "PIN",
    "SMS",
    "VAT",
    "SaaS",
    "AI",
    "PDF",
    "SEO",
    "CMS",
    "HR",
    "HRIS",
    "ATS",
    "SSO",
    "SCIM",
    "REST",
    "GraphQL",
    "IP",
    "VPN",
    "CDN",
    "POS",
    "B2B",
    "RSS",
    "SDK",
    "UI",
    "ID",
    "JWT",
    "PEM",
    "EU",
    "US",
    "UK",
    "QR",
    "FTP",
    "SFTP",
    "IoT",
    "MSP",
    "LMS",
    "RMM",
    "NFT",
    "OCR",
    "TTS",
    "VoIP",
    "WhatsApp",
    "WordPress",
    "LinkedIn",
    "YouTube",
    "GitHub",
    "SAP",
    "MX",
    "RMS",
    "PMS",
    "IDX",
    "MLS",
    "GPS",
    "EDI",
    "OTP",
    "NMI",
    "DPP",
    "MCP",
    "ESG",
    "GDPR",
    "ISBN",
    "HTML",
    "GitLab",
    "UUID",
    "IFTTT",
    "TOTP",
    "SSH",
];

/// A name without slugs, signs and shouting.
pub fn name(raw: &str) -> String {
    let spaced = match raw.contains('_') && !raw.contains(' ') {
        true => raw.replace('_', " "),
        false => raw.to_owned(),
    };
    let kept: String =
        spaced.chars().filter(|c| c.is_alphanumeric() || " .,:;&+-/()'!|".contains(*c)).collect();
    let words: Vec<String> = kept.split_whitespace().map(|word| spelled(word, false)).collect();
    words.join(" ")
}

/// `API key`, `Account id`, `E-mail`, `User name`.
pub fn label(raw: &str, field: &str) -> String {
    let raw = if raw.trim().is_empty() || !raw.is_ascii() || raw.len() > 42 { field } else { raw };
    let raw = raw.trim().trim_end_matches(['.', ':', '*']);
    let words = split_words(raw);
    let lower: Vec<String> = words.iter().map(|word| spelled(&word.to_lowercase(), true)).collect();
    let text = lower.join(" ");
    let text = text
        .replace("user name", "username")
        .replace("username", "user name")
        .replace("host name", "host")
        .replace("hostname", "host")
        .replace("sub domain", "subdomain")
        .replace("data center", "data centre")
        .replace("git lab", "GitLab")
        .replace("rest API", "REST API")
        .replace("microsoft entra", "Microsoft Entra")
        .replace("auto task", "Autotask");
    let text = match text.as_str() {
        "appid" => "app id",
        "storeid" => "store id",
        "uid" | "OAuth uid" => "user id",
        "e mail" => "e-mail",
        "useremail" => "e-mail",
        "userpassword" => "password",
        "pass code" => "passcode",
        "pat key" => "personal access token",
        other => other,
    };
    capitalised(text)
}

/// `Okta domain` as `Domain`: whose it is, the page says already.
pub fn without_name(label: &str, name: &str) -> String {
    let squeezed = |text: &str| -> String {
        text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
    };
    let name = squeezed(name);
    let words: Vec<&str> = label.split(' ').collect();
    let ends = (1..words.len()).find(|end| squeezed(&words[..*end].concat()) == name);
    match ends.filter(|_| name.len() > 2) {
        Some(end) => capitalised(&words[end..].join(" ")),
        None => label.to_owned(),
    }
}

fn split_words(raw: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    let mut last_lower = false;
    for c in raw.chars() {
        let boundary = c.is_whitespace() || c == '_' || c == '-';
        if (boundary || (c.is_ascii_uppercase() && last_lower)) && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if !boundary {
            word.push(c);
        }
        last_lower = c.is_ascii_lowercase();
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Of a label, `lower` is true: ids are no proper names there.
fn spelled(word: &str, lower: bool) -> String {
    let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
    let known = SPELLINGS.iter().find(|known| known.eq_ignore_ascii_case(bare));
    let odd_case = |known: &str| lower || bare != bare.to_uppercase() || bare == known;
    let own = match (bare.to_ascii_lowercase().as_str(), known) {
        ("id", _) if lower => "id",
        ("ids", _) if lower => "ids",
        ("us" | "it" | "ip" | "pos" | "rest" | "pin" | "mx" | "id" | "ui", _) if !lower => {
            return word.to_owned();
        }
        ("us" | "rest" | "pin", _) => return word.to_owned(),
        ("email" | "mail", _) if lower => return word.replace("email", "e-mail"),
        ("apikey", _) if lower => "API key",
        ("oauth2", _) => "OAuth 2",
        (_, Some(known)) if odd_case(known) && bare.len() > 1 => known,
        _ => return word.to_owned(),
    };
    word.replacen(bare, own, 1)
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// A source's category, ours, and what it is for in words.
const CATEGORIES: &[(&str, &str, &str)] = &[
    ("artificial_intelligence", "artificial_intelligence", "Artificial intelligence"),
    ("machine_learning", "artificial_intelligence", "Machine learning"),
    ("ai_generation", "artificial_intelligence", "Artificial intelligence"),
    ("ai_infrastructure", "artificial_intelligence", "Infrastructure for AI"),
    ("text_to_image", "artificial_intelligence", "Images from text"),
    ("memory", "artificial_intelligence", "Memory for AI agents"),
    ("mcp", "artificial_intelligence", "Tools for AI agents"),
    (
        "speech_recognition_and_synthesis",
        "artificial_intelligence",
        "Speech: recognition and synthesis",
    ),
    ("language_translation", "artificial_intelligence", "Translation"),
    ("crm", "sales_and_crm", "Customer relations"),
    ("sales_and_crm", "sales_and_crm", "Sales and customer relations"),
    ("customer_relation", "sales_and_crm", "Customer relations"),
    ("crm_and_sales_tools", "sales_and_crm", "Sales and customer relations"),
    ("crm_support", "support", "Customer support"),
    ("support", "support", "Customer support"),
    ("customer_support", "support", "Customer support"),
    ("ticketing", "ticketing", "Tickets and issues"),
    ("accounting", "accounting", "Accounting"),
    ("invoicing", "accounting", "Invoices"),
    ("banking", "finance", "Banking"),
    ("blockchain", "finance", "Blockchain data"),
    ("financial", "finance", "Finance"),
    ("finance", "finance", "Finance"),
    ("financial_data_and_stock_market", "finance", "Finance"),
    ("payment", "payment_processing", "Payments"),
    ("payment_processing", "payment_processing", "Payments"),
    ("e_commerce", "commerce", "Online shops"),
    ("ecommerce", "commerce", "Online shops"),
    ("commerce", "commerce", "Commerce"),
    ("e_commerce_and_retail", "commerce", "Commerce"),
    ("erp", "erp", "Business administration"),
    ("enterprise", "erp", "Business administration"),
    ("hr", "hr_and_recruiting", "Human resources"),
    ("hr_workforce", "hr_and_recruiting", "Workforce management"),
    ("human_resources", "hr_and_recruiting", "Human resources"),
    ("hr_and_recruiting", "hr_and_recruiting", "Human resources and recruiting"),
    ("ats", "hr_and_recruiting", "Recruiting"),
    ("marketing", "marketing", "Marketing"),
    ("communication", "communication", "Communication"),
    ("email", "communication", "E-mail"),
    ("messaging", "communication", "Messages"),
    ("telecom", "communication", "Telephony"),
    ("video_conferencing", "communication", "Video meetings"),
    ("email_and_messaging", "communication", "E-mail and messages"),
    ("collaboration", "collaboration", "Collaboration"),
    ("social", "social", "Social networks"),
    ("productivity", "productivity", "Productivity"),
    ("project_management", "productivity", "Projects and tasks"),
    ("task_and_project_management", "productivity", "Projects and tasks"),
    ("note_taking_and_knowledge_bases", "knowledge_base", "Notes and knowledge bases"),
    ("knowledge_base", "knowledge_base", "Knowledge base"),
    ("scheduling_and_calendars", "scheduling", "Calendars and appointments"),
    ("scheduling", "scheduling", "Appointments"),
    ("forms_and_surveys", "forms_and_surveys", "Forms and surveys"),
    ("surveys", "forms_and_surveys", "Surveys"),
    ("automation", "automation", "Automation"),
    ("integration", "automation", "Integration"),
    ("analytics", "analytics", "Analytics"),
    ("data_analytics", "analytics", "Analytics"),
    ("data_and_analytics", "analytics", "Analytics"),
    ("business_intelligence", "analytics", "Business intelligence"),
    ("open_data", "open_data", "Open data"),
    ("text", "artificial_intelligence", "Text processing"),
    ("developer_tools", "developer_tools", "Developer tools"),
    ("dev_tools", "developer_tools", "Developer tools"),
    ("deployment", "developer_tools", "Deployment"),
    ("sandboxes", "developer_tools", "Sandboxes for code"),
    ("code", "developer_tools", "Developer tools"),
    ("backend", "developer_tools", "Backend services"),
    ("browser", "developer_tools", "Browsers in the cloud"),
    ("code_execution", "developer_tools", "Developer tools"),
    ("monitoring", "developer_tools", "Monitoring"),
    ("cloud", "cloud", "Cloud infrastructure"),
    ("cloud_infrastructure", "cloud", "Cloud infrastructure"),
    ("security", "security", "Security"),
    ("iam", "security", "Identity and access"),
    ("storage", "files", "Files and storage"),
    ("document_management", "files", "Documents"),
    ("content_and_files", "files", "Files and content"),
    ("document_processing", "files", "Documents"),
    ("cms", "content_management", "Content management"),
    ("design", "design", "Design"),
    ("media", "media", "Media"),
    ("video", "media", "Video"),
    ("entertainment", "media", "Entertainment"),
    ("news_and_media", "media", "News and media"),
    ("gaming", "gaming", "Games"),
    ("sports", "sports", "Sports"),
    ("education", "education", "Education"),
    ("education_and_learning", "education", "Education"),
    ("legal", "legal", "Law and compliance"),
    ("legal_and_compliance", "legal", "Law and compliance"),
    ("healthcare_and_medical", "health", "Health"),
    ("iot", "iot", "Devices"),
    ("iot_and_device_control", "iot", "Devices"),
    ("location", "location", "Maps and places"),
    ("map", "location", "Maps and places"),
    ("transport", "location", "Transport"),
    ("weather", "weather", "Weather"),
    ("search", "search", "Search"),
    ("web_search", "search", "Web search"),
    ("search_scraping", "search", "Web search and scraping"),
];

/// Words of a name or slug that say what an app is for.
const TELLING: &[(&str, &str, &str)] = &[
    ("sms", "communication", "Text messages"),
    ("whatsapp", "communication", "WhatsApp messages"),
    ("mail", "communication", "E-mail"),
    ("email", "communication", "E-mail"),
    ("crm", "sales_and_crm", "Customer relations"),
    ("pdf", "files", "PDF documents"),
    ("invoice", "accounting", "Invoices"),
    ("invoicing", "accounting", "Invoices"),
    ("pay", "payment_processing", "Payments"),
    ("payments", "payment_processing", "Payments"),
    ("ads", "marketing", "Advertising"),
    ("seo", "marketing", "Search engine optimisation"),
    ("weather", "weather", "Weather"),
    ("maps", "location", "Maps and places"),
    ("geo", "location", "Places and coordinates"),
    ("ip", "location", "Facts about IP addresses"),
    ("hr", "hr_and_recruiting", "Human resources"),
    ("forms", "forms_and_surveys", "Forms"),
    ("survey", "forms_and_surveys", "Surveys"),
    ("calendar", "scheduling", "Calendars"),
    ("booking", "scheduling", "Bookings"),
    ("bookings", "scheduling", "Bookings"),
    ("news", "media", "News"),
    ("video", "media", "Video"),
    ("chatbot", "artificial_intelligence", "Chat bots"),
    ("bot", "artificial_intelligence", "Chat bots"),
    ("gpt", "artificial_intelligence", "Language models"),
    ("ai", "artificial_intelligence", "Artificial intelligence"),
    ("crypto", "finance", "Cryptocurrencies"),
    ("coin", "finance", "Cryptocurrencies"),
    ("translate", "artificial_intelligence", "Translation"),
    ("analytics", "analytics", "Analytics"),
    ("scraper", "search", "Web scraping"),
    ("scraping", "search", "Web scraping"),
    ("scrape", "search", "Web scraping"),
    ("webscraping", "search", "Web scraping"),
    ("cloud", "cloud", "Cloud services"),
    ("shop", "commerce", "Online shops"),
    ("commerce", "commerce", "Online shops"),
    ("verify", "security", "Verification"),
    ("security", "security", "Security"),
    ("learning", "education", "Learning"),
    ("lms", "education", "Learning"),
    ("desk", "support", "Customer support"),
    ("helpdesk", "support", "Customer support"),
    ("sign", "legal", "Signatures"),
    ("esignatures", "legal", "Signatures"),
    ("docs", "files", "Documents"),
    ("books", "accounting", "Accounting"),
    ("people", "hr_and_recruiting", "Human resources"),
    ("campaigns", "marketing", "Campaigns"),
    ("phone", "communication", "Telephony"),
    ("voice", "communication", "Telephony"),
    ("talk", "communication", "Telephony"),
    ("db", "developer_tools", "Databases"),
    ("database", "developer_tools", "Databases"),
    ("webhook", "developer_tools", "Webhooks"),
    ("screenshot", "developer_tools", "Screenshots of web pages"),
];

/// Says nothing about what an app is for.
const EMPTY: [&str; 3] = ["apis_and_http_requests", "tools", ""];

/// Our categories, at most three, and a line in words.
pub fn purpose(slug: &str, name: &str, theirs: &[&str], domain: &str) -> (Vec<String>, String) {
    let theirs: Vec<&str> = theirs.iter().copied().filter(|c| !EMPTY.contains(c)).collect();
    let mut found: Vec<(&str, &str)> = told_by_name(slug, name).into_iter().collect();
    // A source that lists everything that one could do with an app says little with each.
    let vague = [
        "document_processing",
        "crm_and_sales_tools",
        "email_and_messaging",
        "task_and_project_management",
        "financial_data_and_stock_market",
        "e_commerce_and_retail",
        "productivity",
        "code_execution",
    ];
    let (telling, general): (Vec<&str>, Vec<&str>) =
        theirs.iter().copied().partition(|category| !vague.contains(category));
    let known = |category: &&str| {
        CATEGORIES.iter().find(|(from, _, _)| from == category).map(|(_, to, words)| (*to, *words))
    };
    found.extend(telling.iter().chain(&general).filter_map(known));
    let mut seen = BTreeSet::new();
    found.retain(|(category, _)| seen.insert(*category));
    found.truncate(if telling.is_empty() { 2 } else { 3 });
    let categories = found.iter().map(|(category, _)| (*category).to_owned()).collect();
    // What is only vague makes a category, and no promise.
    let told = told_by_name(slug, name).is_some() || !telling.is_empty();
    (categories, described(if told { &found } else { &[] }, domain))
}

fn told_by_name<'a>(slug: &str, name: &str) -> Option<(&'a str, &'a str)> {
    let lower = name.to_lowercase();
    let words: Vec<&str> =
        slug.split('_').chain(lower.split(|c: char| !c.is_alphanumeric())).collect();
    let told = TELLING.iter().find(|(word, _, _)| words.contains(word));
    told.map(|(_, category, phrase)| (*category, *phrase))
}

/// Without a category there is only the address, and that is said.
fn described(found: &[(&str, &str)], domain: &str) -> String {
    match (found, domain) {
        ([], "") => "An API at an address of your own".to_owned(),
        ([], domain) => format!("The API of {domain}"),
        ([(_, only)], "") => format!("{only}, at an address of your own"),
        ([(_, only)], domain) => format!("{only} ({domain})"),
        ([(_, first), (_, second), ..], "") => joined(first, second),
        ([(_, first), (_, second), ..], domain) => format!("{} ({domain})", joined(first, second)),
    }
}

fn joined(first: &str, second: &str) -> String {
    let tail = match SPELLINGS.iter().any(|known| second.starts_with(known))
        || second.starts_with("WhatsApp")
    {
        true => second.to_owned(),
        false => {
            let mut letters = second.chars();
            letters.next().map(|c| c.to_lowercase().chain(letters).collect()).unwrap_or_default()
        }
    };
    match first.contains(" and ") || tail.contains(" and ") {
        true => format!("{first}; {tail}"),
        false => format!("{first} and {tail}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_words_with_one_capital() {
        for (raw, field, expected) in [
            ("Api key", "api_key", "API key"),
            ("API Key", "api_key", "API key"),
            ("", "apiKey", "API key"),
            ("Username", "username", "User name"),
            ("Email", "email", "E-mail"),
            ("Account ID", "account_id", "Account id"),
            ("Access token", "access_token", "Access token"),
            ("Base url", "base_url", "Base URL"),
            ("", "company_domain", "Company domain"),
            ("Git lab host", "base_api_url", "GitLab host"),
            ("", "userEmail", "User e-mail"),
        ] {
            assert_eq!(label(raw, field), expected, "{raw} {field}");
        }
    }

    #[test]
    fn a_label_does_not_repeat_the_name_of_the_app() {
        for (label, name, expected) in [
            ("Okta domain", "Okta", "Domain"),
            ("Jamf pro instance", "Jamf Pro", "Instance"),
            ("Sage HR subdomain", "Sage HR", "Subdomain"),
            ("API key", "API Ninjas", "API key"),
            ("Store", "Store", "Store"),
        ] {
            assert_eq!(without_name(label, name), expected, "{label} {name}");
        }
    }

    #[test]
    fn names_keep_their_own_spelling_but_for_abbreviations() {
        for (raw, expected) in [
            ("Voodoo Sms", "Voodoo SMS"),
            ("8x8", "8x8"),
            ("some_app", "some app"),
            ("Slack \u{1f680}", "Slack"),
            ("Gebrüder Weiss", "Gebrüder Weiss"),
        ] {
            assert_eq!(name(raw), expected);
        }
    }
}
