use serde_json::{Value, json};

use super::*;
use crate::vtl::Parameters;

fn context() -> Value {
    json!({"requestId": "r-1", "requestTimeEpoch": 1_700_000_000_123_i64, "identity": {"sourceIp": "127.0.0.1"}})
}

fn parameters() -> Parameters {
    Parameters {
        path: [("id".to_owned(), "7".to_owned())].into(),
        query: vec![("q".into(), "a b".into())],
        headers: vec![("idempotency-key".into(), "k-1".into())],
    }
}

fn render_body(template: &str, body: &str) -> Result<String, RenderError> {
    let (parameters, context, variables) = (parameters(), context(), json!({"colour": "blue"}));
    let mut scope = Scope::new(body, &parameters, &context, &variables);
    Template::parse(template).unwrap().render(&mut scope)
}

fn render(template: &str) -> String {
    render_body(template, r#"{"a": {"b": [1, {"c": "x"}]}, "name": "O'Hara", "none": null}"#).unwrap()
}

fn refusal(template: &str) -> String {
    Template::parse(template).unwrap_err().to_string()
}

#[test]
fn the_body_is_url_encoded_as_java_does() {
    let encoded =
        render_body("B=$util.urlEncode($input.body)&x=1", "a b&c+d%#\"\\~*-_.\n\u{1F600}é/").unwrap();
    assert_eq!(encoded, "B=a+b%26c%2Bd%25%23%22%5C%7E*-_.%0A%F0%9F%98%80%C3%A9%2F&x=1");
}

#[test]
fn the_body_is_written_byte_for_byte_and_never_read_as_a_template() {
    let body = "#set($x = 1) $context.requestId \r\n\t{}";
    assert_eq!(render_body("$input.body", body).unwrap(), body);
}

#[test]
fn url_decoding_undoes_url_encoding() {
    assert_eq!(render("$util.urlDecode($util.urlEncode('a b&ü+'))"), "a b&ü+");
}

#[test]
fn escape_java_script_escapes_quotes_controls_and_everything_beyond_ascii() {
    let escaped = render_body("$util.escapeJavaScript($input.body)", "'\"\\/\n\u{1}é\u{1F600}").unwrap();
    assert_eq!(escaped, "\\'\\\"\\\\\\/\\n\\u0001\\u00E9\\uD83D\\uDE00");
}

#[test]
fn base64_and_json_functions_work_both_ways() {
    assert_eq!(render("$util.base64Decode($util.base64Encode('häuser'))"), "häuser");
    assert_eq!(render(r#"#set($j = $util.parseJson('{"k": [1, 2]}'))$j.k.get(1)"#), "2");
}

#[test]
fn parameters_come_from_path_query_and_header() {
    assert_eq!(
        render("$input.params('id') $input.params('q') $input.params('Idempotency-Key')"),
        "7 a b k-1"
    );
    assert_eq!(render("[$input.params('none')]"), "[]");
    assert_eq!(render("$input.params().header.get('idempotency-key') $input.params().path.id"), "k-1 7");
    assert_eq!(render("#foreach($n in $input.params().querystring.keySet())$n#end"), "q");
}

#[test]
fn input_path_gives_values_and_input_json_gives_json() {
    assert_eq!(render("$input.path('$.a.b[1].c') $input.json('$.a.b')"), r#"x [1,{"c":"x"}]"#);
    assert_eq!(render("$input.path('$.name') $input.json('$.name')"), r#"O'Hara "O'Hara""#);
    assert_eq!(render("[$input.path('$.nothing')] $input.json('$.nothing')"), "[] \"\"");
    assert_eq!(
        render("#set($root = $input.path('$'))$root.a.b.get(0) $root.a.b[1].c $root.a.b.size()"),
        "1 x 2"
    );
}

#[test]
fn the_map_of_headers_has_the_names_as_the_client_wrote_them() {
    let template = "#set($key = $input.params().header.get('Idempotency-Key'))#if($key)found#end";
    assert_eq!(render(template), "");
    assert_eq!(render("#foreach($n in $input.params().header.keySet())$n#end"), "idempotency-key");
}

#[test]
fn a_map_is_written_as_java_does_and_a_list_as_json() {
    assert_eq!(render("$input.path('$.a')"), r#"{b=[1,{"c":"x"}]}"#);
}

#[test]
fn an_empty_body_is_written_as_an_empty_object() {
    assert_eq!(render_body("$input.body $input.json('$')", "").unwrap(), "{} {}");
    assert_eq!(render_body("[$input.path('$.a')]", "").unwrap(), "[]");
}

#[test]
fn a_body_that_is_not_json_fails_only_where_json_is_asked_for() {
    assert!(matches!(render_body("$input.path('$.a')", "no json"), Err(RenderError::NotJson(_))));
    assert_eq!(render_body("$input.body", "no json").unwrap(), "no json");
}

#[test]
fn context_and_stage_variables_are_read() {
    assert_eq!(
        render("$context.requestId ${context.requestTimeEpoch}0 $context.identity.sourceIp"),
        "r-1 17000000001230 127.0.0.1"
    );
    assert_eq!(
        render("$stageVariables.colour $stageVariables.get('colour') $stageVariables['colour']"),
        "blue blue blue"
    );
}

#[test]
fn numbers_are_written_as_java_writes_them() {
    assert_eq!(
        render("#set($a = 12345678.5)$a,#set($a = 0.0001)$a,#set($a = 10000000.0)$a,#set($a = 100.0)$a"),
        "1.23456785E7,1.0E-4,1.0E7,100.0"
    );
    assert_eq!(
        render_body("$input.path('$.a') $input.json('$.a')", r#"{"a": 0.0001}"#).unwrap(),
        "1.0E-4 0.0001"
    );
}

#[test]
fn the_mark_of_a_quiet_reference_goes_where_there_is_none() {
    assert_eq!(render("a$!5 $!. $!$ $!# $!#5 $!#_ b"), "a$5 $. $$ $# $!#5 $!#_ b");
}

#[test]
fn unresolved_references_are_written_as_their_own_text_unless_quiet() {
    let template = "#if(false)#set($x = 1)#end$x ${x} $x.y.length() [$!x] [$!{x}]";
    assert_eq!(render(template), "$x ${x} $x.y.length() [] []");
}

#[test]
fn dollars_and_hashes_that_begin_nothing_are_text() {
    assert_eq!(render("5$ $5 #1 # a# "), "5$ $5 #1 # a# ");
}

#[test]
fn a_directive_takes_the_rest_of_its_line_and_set_the_blanks_that_follow_no_text() {
    assert_eq!(render("a\n  #set($x = 1)  \nb$x"), "a\n  b1");
    assert_eq!(render(" \t#set($x = 1)|"), "|");
    assert_eq!(render("#set($y = 1)$y #set($x = 1)|"), "1|");
    assert_eq!(render("#if(true)  #set($x = 1)|#end #set($x = 1)|"), "||");
    assert_eq!(render("a ## c\n #set($x = 1)|"), "a |");
    assert_eq!(render("#if(true)\nyes\n#else\nno\n#end\nz"), "yes\nz");
    assert_eq!(render("a## comment\nb#* several\nlines *#c"), "abc");
    assert_eq!(render("#[[ $x #if ]]#"), " $x #if ");
}

#[test]
fn the_first_true_branch_is_taken() {
    let template = "#set($n = 2)#if($n == 1)one#elseif($n == 2)two#else#{if}(true)many#end#end";
    assert_eq!(render(template), "two");
    assert_eq!(
        render("#if(!$input.params('q').isEmpty() && ($context.stage == 'x' || 1 < 2))y#{else}n#end"),
        "y"
    );
}

#[test]
fn a_literal_and_arithmetic_are_no_condition() {
    for condition in ["'a'", "1", "[1]", "{'a': 1}", "1 + 1", "!true", "!!'a'", "'a' && true"] {
        assert_eq!(render(&format!("#if({condition})t#{{else}}f#end")), "f", "{condition}");
    }
    assert_eq!(render("#set($x = 'a')#if($x && !'')t#end"), "t");
}

#[test]
fn operators_can_be_words() {
    assert_eq!(render("#if(1 lt 2 and not (1 ge 2) and (1 ne 2 or 1 eq 2))t#end"), "t");
    assert_eq!(render("#set($order = 2)#if($order gt 1)t#end"), "t");
}

#[test]
fn null_has_no_methods_and_extends_a_text_by_its_source() {
    let unset = "#if(false)#set($u = 1)#end";
    assert_eq!(render(&format!("{unset}$u.toString() $u.equals('a')")), "$u.toString() $u.equals('a')");
    assert_eq!(render(&format!("{unset}#set($x = $u + 'a')$x#set($x = 'a' + $u) $x")), "$ua a$u");
}

#[test]
fn a_comment_ends_where_it_is_closed_and_begins_after_no_property() {
    assert_eq!(render("a#*#b*#c"), "ac");
    assert_eq!(render("$stageVariables.none## c\n|"), "$stageVariables.none## c\n|");
    assert_eq!(render("${stageVariables.none}## c\n|"), "${stageVariables.none}|");
    assert_eq!(render("$!5 $!$stageVariables.colour"), "$5 $!blue");
}

#[test]
fn an_index_that_leads_nowhere_fails_and_a_negative_one_counts_from_the_end() {
    assert_eq!(render("#set($x = [1, 2])$x[-1] $x.get(0)"), "2 1");
    for template in ["#set($x = [1])$x[1]", "#set($x = [1])$x.get(-1)", "$input.body[-1]"] {
        assert!(matches!(render_body(template, "a"), Err(RenderError::Failed(_))), "{template}");
    }
    assert_eq!(render_body("$input.body[0]", "a").unwrap(), "$input.body[0]");
    assert_eq!(render("#set($x = [1..$stageVariables.none])[$!x]"), "[]");
}

#[test]
fn a_method_of_a_text_takes_the_types_of_java() {
    assert_eq!(render_body("$input.body.contains(1)", "a1").unwrap(), "$input.body.contains(1)");
    assert_eq!(render_body("$input.body.substring('b')", "ab").unwrap(), "$input.body.substring('b')");
    assert_eq!(render_body("$input.body.indexOf(98) $input.body.split('').size()", "ab").unwrap(), "1 2");
    assert_eq!(render_body("$input.body.equalsIgnoreCase($stageVariables.none)", "a").unwrap(), "false");
    let null = render_body("$input.body.concat($stageVariables.none)", "a");
    assert!(matches!(null, Err(RenderError::Failed(_))), "{null:?}");
}

#[test]
fn url_decoding_refuses_what_is_no_escape() {
    for text in ["%", "%4", "a%zz"] {
        let decoded = render_body("$util.urlDecode($input.body)", text);
        assert!(matches!(decoded, Err(RenderError::Failed(_))), "{decoded:?}");
    }
}

#[test]
fn null_and_false_are_false_and_an_empty_text_is_true_in_velocity_1_7() {
    assert_eq!(render("#if($input.params('none'))t#end#if($input.params('none') != '')never#end"), "t");
    assert_eq!(render("#if($input.path('$').none)never#end#if(false)never#end"), "");
}

#[test]
fn foreach_knows_index_count_and_has_next() {
    let template = "#foreach($i in ['a', 'b'])$foreach.index:$foreach.count:$i#if($foreach.hasNext),#end#end";
    assert_eq!(render(template), "0:1:a,1:2:b");
    assert_eq!(render("#foreach($i in [3..1])$i#end #foreach($v in {'k': 'v'})$v#end"), "321 v");
    assert_eq!(render("#set($i = 9)#foreach($i in [1])$i#end$i"), "19");
}

#[test]
fn arithmetic_keeps_whole_numbers_whole_and_binds_as_usual() {
    assert_eq!(
        render("#set($x = 1 + 2 * 3)#set($y = (1 + 2) * 3)#set($z = 7 / 2)#set($m = 7 % 4)$x $y $z $m"),
        "7 9 3 3"
    );
    assert_eq!(render("#set($x = 1.5 + 1)$x#set($t = 'a' + 1) $t"), "2.5 a1");
    assert_eq!(render("#set($x = 5)#set($x = 1 / 0)$x"), "5", "a null is not assigned");
}

#[test]
fn double_quoted_texts_are_templates_and_single_quoted_ones_are_not() {
    assert_eq!(render("#set($n = 'x')#set($a = \"$n/${n}1\")#set($b = '$n')$a $b"), "x/x1 $n");
    assert_eq!(render("#set($a = 'it''s')$a"), "it's");
}

#[test]
fn a_function_of_util_takes_a_string_and_nothing_else() {
    for name in functions::UTIL {
        for argument in ["$context.requestTimeEpoch", "$input.path('$.a')", "true", "[1]"] {
            let refused = render_body(&format!("$util.{name}({argument})"), r#"{"a": {"b": 1}}"#);
            let Err(RenderError::Failed(reason)) = refused else { panic!("{name} takes {argument}") };
            assert!(reason.starts_with(&format!("$util.{name}: takes a string")), "{reason}");
        }
    }
}

#[test]
fn values_of_different_kinds_are_compared_by_their_text() {
    assert_eq!(render("#if($input.path('$.a.b[0]') == '1')same#end#if('1' == 1)same#end"), "samesame");
}

#[test]
fn methods_of_texts_work_as_in_java() {
    assert_eq!(
        render("#set($s = 'a,b,,')$s.split(',').size() $s.length() $s.indexOf('b') $s.toUpperCase()"),
        "2 5 2 A,B,,"
    );
    assert_eq!(
        render("$input.path('$.name').replaceAll(\"'\", '-') $input.body.startsWith('{')"),
        "O-Hara true"
    );
    assert_eq!(
        render(
            "#set($s = 'ab12')$s.replaceAll('([a-z])([0-9])', '$2$1') $s.matches('[a-z]+') $s.substring(1, 3)"
        ),
        "a1b2 false b1"
    );
    assert_eq!(
        render("#set($s = 'x')$s.contains('x') $s.equals('y') $s.concat('z') $s.trim()"),
        "true false xz x"
    );
}

#[test]
fn the_status_and_headers_of_the_response_can_be_overridden() {
    let (parameters, context, variables) = (parameters(), context(), json!({}));
    let mut scope = Scope::new("", &parameters, &context, &variables);
    let source = "#set($context.responseOverride.status = 413)#set($context.responseOverride.header.X-Why = 'size')#set($context.responseOverride.header['Y'] = \"$context.requestId\")x";
    assert_eq!(Template::parse(source).unwrap().render(&mut scope).unwrap(), "x");
    assert_eq!(scope.overrides.status, Some(413));
    assert_eq!(scope.overrides.headers, [("X-Why".into(), "size".into()), ("Y".into(), "r-1".to_owned())]);
}

#[test]
fn an_override_is_final() {
    for template in [
        "#set($context.responseOverride.status = 400)#set($context.responseOverride.status = 500)",
        "#set($context.responseOverride.header.X = 1)#set($context.responseOverride.header.x = 2)",
    ] {
        assert!(matches!(render_body(template, ""), Err(RenderError::Failed(_))), "{template}");
    }
}

#[test]
fn an_override_that_is_no_status_is_ignored() {
    for value in ["'many'", "600", "99"] {
        let (parameters, context, variables) = (parameters(), context(), json!({}));
        let mut scope = Scope::new("", &parameters, &context, &variables);
        let template = format!("#set($context.responseOverride.status = {value})");
        Template::parse(&template).unwrap().render(&mut scope).unwrap();
        assert_eq!(scope.overrides.status, None, "{value}");
    }
}

#[test]
fn a_json_text_can_be_built_from_parameters() {
    let template = concat!(
        r#"#set($name = $util.escapeJavaScript($input.body).replaceAll("\\'", "'"))"#,
        r#"$util.urlEncode("{""name"":""$name""}")"#
    );
    let encoded = render_body(template, "O'Hara \"x\"").unwrap();
    let json: Value = serde_json::from_str(&form_decode(&encoded)).unwrap();
    assert_eq!(json, json!({"name": "O'Hara \"x\""}));
}

#[test]
fn what_is_not_known_is_refused_with_its_name_and_place() {
    assert_eq!(refusal("a\n #include('x')"), "line 2, column 2: the directive #include is not emulated");
    assert_eq!(
        refusal("$util.md5('x')"),
        "line 1, column 1: $util.md5('x') the function $util.md5 is not emulated"
    );
    for (template, named) in [
        ("x $context.nothing", "$context.nothing"),
        ("$nobody.sets", "$nobody.sets"),
        // A hyphen is part of a name.
        ("$context.requestId-1", "$context.requestId-1"),
        ("$input.paths('$')", "$input.paths"),
        ("$input.path('$..x')", "$..x"),
        ("#set($p = '$.a')$input.path($p)", "literal"),
        ("$input.body.reverse()", "reverse"),
        ("$input.body.substring()", "substring"),
        ("$input.body.replaceAll('a(?=b)', '')", "a(?=b)"),
        ("$input.body.matches(\"[\")", "regular expression"),
        ("#set($context.requestId = 1)", "$context.requestId"),
        ("#set($context.requestOverride.header.X = 1)", "requestOverride"),
        ("$foreach.index", "$foreach.index"),
        ("#if(true)x", "#end"),
        ("x#end", "closes nothing"),
        ("#set($x = )", "expected a value"),
        ("#set($x = \"$nobody\")", "$nobody"),
        ("\\$context.requestId", "escaped"),
        ("$util.urlEncode($input.body", "expected"),
        // What Velocity 1.7 cannot read, or reads as nobody means it.
        ("costs 5$", "cannot end"),
        ("number #", "cannot end"),
        ("## what?#", "cannot end"),
        ("#set\n($x = 1)", "expected `(`"),
        ("#set($x = [ ])", "expected a value"),
        ("#set($x = 2 -1)", "a minus"),
        ("#set(${x} = 1)", "braces"),
        ("#set($!x = 1)", "a !"),
        ("5$#if(true)a#end", "right before a directive"),
        ("$ #set($x = 1)", "right before a directive"),
        ("${$input.body", "begins no reference"),
    ] {
        let refusal = refusal(template);
        assert!(refusal.contains(named), "{template}: {refusal}");
    }
}

#[test]
fn a_template_that_is_cut_anywhere_is_read_or_refused_and_never_panics() {
    let whole = r#"a #set($x = [1..3, 'ü''', {'k': -1.5}, true])#if(!$x && ($x == "$!{x}ü"))#foreach($i in $x)
 $i.k[0]#end#else #* c *# ## d
 #[[ e ]]#$util.urlEncode($input.path('$.a[0]'))#end"#;
    for (at, _) in whole.char_indices() {
        for template in [&whole[..at], &whole[at..]] {
            if let Ok(template) = Template::parse(template) {
                let (parameters, context, variables) = (parameters(), context(), json!({}));
                let rendered = template.render(&mut Scope::new("{}", &parameters, &context, &variables));
                assert!(rendered.is_ok(), "{rendered:?}");
            }
        }
    }
}
