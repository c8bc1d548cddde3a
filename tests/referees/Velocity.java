import static java.util.stream.Collectors.joining;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.net.URLDecoder;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collection;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.commons.lang.StringEscapeUtils;
import org.apache.velocity.VelocityContext;
import org.apache.velocity.app.VelocityEngine;
import org.apache.velocity.util.introspection.Info;
import org.apache.velocity.util.introspection.UberspectImpl;
import org.apache.velocity.util.introspection.VelMethod;

/**
 * Renders mapping templates with Velocity itself. A line of the input is a template and the values
 * that it sees, in tokens (see `read`); a line of the output is `=` and the text, or `error`.
 * Templates and texts are URL-encoded. crates/local-cloud/languages/src/vtl/referee.rs asks.
 */
public class Velocity {
    /** What API Gateway hands in as $input. What its JSONPaths give comes with the case. */
    public static class Input {
        private final Map<?, ?> values;

        Input(Map<?, ?> values) { this.values = values; }
        public Object getBody() { return values.get("body"); }
        public Object path(String path) { return ((Map<?, ?>) values.get("path")).get(path); }
        public Object json(String path) { return ((Map<?, ?>) values.get("json")).get(path); }
        public Object params() { return values.get("params"); }
        public Object params(String name) {
            for (String place : new String[] {"path", "querystring", "header"}) {
                Map<?, ?> found = (Map<?, ?>) ((Map<?, ?>) params()).get(place);
                for (Map.Entry<?, ?> entry : found.entrySet()) {
                    boolean same = place.equals("header")
                        ? name.equalsIgnoreCase((String) entry.getKey()) : name.equals(entry.getKey());
                    if (same) return entry.getValue();
                }
            }
            return "";
        }
    }

    /** What API Gateway hands in as $util. */
    public static class Util {
        public String urlEncode(String text) throws Exception { return URLEncoder.encode(text, "UTF-8"); }
        public String urlDecode(String text) throws Exception { return URLDecoder.decode(text, "UTF-8"); }
        public String escapeJavaScript(String text) { return StringEscapeUtils.escapeJavaScript(text); }
        public String base64Encode(String text) {
            return Base64.getEncoder().encodeToString(text.getBytes(StandardCharsets.UTF_8));
        }
        public String base64Decode(String text) {
            return new String(Base64.getDecoder().decode(text), StandardCharsets.UTF_8);
        }
    }

    /** A list that is written as JSON: as API Gateway writes those that it reads from a body. */
    public static class JsonList extends ArrayList<Object> {
        @Override public String toString() { return json(this); }
    }

    /** The same for what `keySet` and `entrySet` give. */
    public static class JsonSet extends LinkedHashSet<Object> {
        JsonSet(Set<?> set) { super(set); }
        @Override public String toString() { return json(this); }
    }

    /** A JSON text as serde_json writes it. */
    static String json(Object value) {
        if (value instanceof Collection) {
            return ((Collection<?>) value).stream().map(Velocity::json).collect(joining(",", "[", "]"));
        }
        if (value instanceof Map) {
            return ((Map<?, ?>) value).entrySet().stream()
                .map(entry -> json(entry.getKey()) + ":" + json(entry.getValue())).collect(joining(",", "{", "}"));
        }
        if (value instanceof Map.Entry) {
            Map.Entry<?, ?> entry = (Map.Entry<?, ?>) value;
            return "{\"key\":" + json(entry.getKey()) + ",\"value\":" + json(entry.getValue()) + "}";
        }
        if (value instanceof Double) {
            String text = new BigDecimal(value.toString()).stripTrailingZeros().toPlainString();
            return text.contains(".") ? text : text + ".0";
        }
        if (value instanceof Number || value instanceof Boolean || value == null) return String.valueOf(value);
        return value.toString().chars().mapToObj(letter -> {
            int named = "\b\t\n\f\r\"\\".indexOf(letter);
            if (named >= 0) return "\\" + "btnfr\"\\".charAt(named);
            return letter < ' ' ? String.format("\\u%04x", letter) : String.valueOf((char) letter);
        }).collect(joining("", "\"", "\""));
    }

    /** The value with lists and sets that are written as JSON. */
    @SuppressWarnings("unchecked")
    static Object written(Object value) {
        if (value instanceof JsonList || value instanceof JsonSet) return value;
        if (value instanceof Set) return new JsonSet((Set<?>) value);
        if (value instanceof Map) ((Map<Object, Object>) value).replaceAll((key, member) -> written(member));
        if (!(value instanceof List)) return value;
        JsonList list = new JsonList();
        for (Object item : (List<?>) value) list.add(written(item));
        return list;
    }

    /** What a template sets becomes a list of ours. */
    public static class Context extends VelocityContext {
        @Override public Object internalPut(String name, Object value) {
            return super.internalPut(name, written(value));
        }
    }

    /** So does what a method gives. */
    public static class Methods extends UberspectImpl {
        @Override
        public VelMethod getMethod(Object on, String name, Object[] arguments, Info info) throws Exception {
            VelMethod method = super.getMethod(on, name, arguments, info);
            return method == null ? null : new VelMethod() {
                public Object invoke(Object on, Object[] arguments) throws Exception {
                    return written(method.invoke(on, arguments));
                }
                public boolean isCacheable() { return method.isCacheable(); }
                public String getMethodName() { return method.getMethodName(); }
                public Class<?> getReturnType() { return method.getReturnType(); }
            };
        }
    }

    /** Reads a value: `{` key value ... `}`, `[` value ... `]`, or a letter for the type and a text. */
    static Object read(Iterator<String> tokens) throws Exception {
        String token = tokens.next();
        String rest = URLDecoder.decode(token.substring(1), "UTF-8");
        switch (token.charAt(0)) {
            case '{': {
                Map<Object, Object> map = new LinkedHashMap<>();
                for (Object key = read(tokens); key != tokens; key = read(tokens)) map.put(key, read(tokens));
                return map;
            }
            case '[': {
                List<Object> list = new JsonList();
                for (Object item = read(tokens); item != tokens; item = read(tokens)) list.add(item);
                return list;
            }
            // The iterator itself is no value: it marks the end.
            case '}': case ']': return tokens;
            case 's': return rest;
            case 'i': return Long.parseLong(rest) == (int) Long.parseLong(rest)
                ? (Object) Integer.valueOf(rest) : Long.valueOf(rest);
            case 'd': return Double.valueOf(rest);
            case 'b': return Boolean.valueOf(rest);
            default: return null;
        }
    }

    public static void main(String[] arguments) throws Exception {
        VelocityEngine engine = new VelocityEngine();
        engine.setProperty("runtime.log.logsystem.class", "org.apache.velocity.runtime.log.NullLogChute");
        engine.setProperty("runtime.introspector.uberspect", Methods.class.getName());
        engine.init();
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        PrintStream output = new PrintStream(System.out, false, "US-ASCII");
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            Iterator<String> tokens = List.of(line.split(" ")).iterator();
            String template = URLDecoder.decode(tokens.next(), "UTF-8");
            Context context = new Context();
            Map<?, ?> values = (Map<?, ?>) read(tokens);
            for (Map.Entry<?, ?> entry : values.entrySet()) context.put((String) entry.getKey(), entry.getValue());
            context.put("input", new Input((Map<?, ?>) values.get("input")));
            context.put("util", new Util());
            StringWriter text = new StringWriter();
            try {
                engine.evaluate(context, text, "case", template);
                output.println("=" + URLEncoder.encode(text.toString(), "UTF-8"));
            } catch (Exception | StackOverflowError | OutOfMemoryError error) {
                output.println("error");
            }
        }
        output.flush();
    }
}
