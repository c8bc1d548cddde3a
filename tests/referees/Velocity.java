import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.StringWriter;
import java.net.URLDecoder;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.commons.lang.StringEscapeUtils;
import org.apache.velocity.VelocityContext;
import org.apache.velocity.app.VelocityEngine;

/**
 * Renders mapping templates with Velocity itself. A line of the input is a template and the values
 * that it sees, in tokens (see `read`); a line of the output is `=` and the text, or `error`.
 * Templates and texts are URL-encoded. crates/local-cloud/src/apigateway/vtl/referee.rs asks.
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

    /** A list that was read from JSON, which API Gateway writes as JSON. */
    public static class JsonList extends ArrayList<Object> {
        private final String json;

        JsonList(String json) { this.json = json; }
        @Override public String toString() { return json; }
    }

    /** Reads a value: `{` key value ... `}`, `[JSON` value ... `]`, or a letter for the type and a text. */
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
                List<Object> list = new JsonList(rest);
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
        engine.init();
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        PrintStream output = new PrintStream(System.out, false, "US-ASCII");
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            Iterator<String> tokens = List.of(line.split(" ")).iterator();
            String template = URLDecoder.decode(tokens.next(), "UTF-8");
            VelocityContext context = new VelocityContext();
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
