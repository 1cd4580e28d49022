import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.DefaultProfileValidationSupport;
import ca.uhn.fhir.context.support.IValidationSupport;
import ca.uhn.fhir.parser.IParser;
import ca.uhn.fhir.parser.LenientErrorHandler;
import ca.uhn.fhir.validation.FhirValidator;
import ca.uhn.fhir.validation.SingleValidationMessage;
import ca.uhn.fhir.validation.ValidationOptions;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.hl7.fhir.common.hapi.validation.support.CommonCodeSystemsTerminologyService;
import org.hl7.fhir.common.hapi.validation.support.InMemoryTerminologyServerValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.PrePopulatedValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.SnapshotGeneratingValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.UnknownCodeSystemWarningValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.ValidationSupportChain;
import org.hl7.fhir.common.hapi.validation.validator.FhirInstanceValidator;
import org.hl7.fhir.instance.model.api.IBaseResource;
import org.hl7.fhir.r4.model.Questionnaire;
import org.hl7.fhir.utilities.http.ManagedWebAccess;
import org.hl7.fhir.utilities.http.ManagedWebAccess.WebAccessPolicy;

/**
 * Validates FHIR R4 resources without a network.
 *
 * <p>Arguments: folders of further definitions (StructureDefinition, CodeSystem, ValueSet,
 * Questionnaire, as JSON).
 * Each line of standard input is a profile's URL or nothing, a tab, and a resource as JSON; the
 * answer is one line, an array of objects with severity, path and message. The first line printed is
 * `ready`. Ends with its input.
 */
public final class Validator {

    /** Questionnaires by URL, with and without version: HAPI keeps only the other kinds itself. */
    private record Questionnaires(FhirContext fhir, Map<String, Questionnaire> byUrl) implements IValidationSupport {

        void add(Questionnaire one) {
            byUrl.put(one.getUrl(), one);
            byUrl.put(one.getUrl() + "|" + one.getVersion(), one);
        }

        @Override
        public FhirContext getFhirContext() {
            return fhir;
        }

        @Override
        public <T extends IBaseResource> T fetchResource(Class<T> type, String url) {
            Questionnaire found = byUrl.get(url);
            return type.isInstance(found) ? type.cast(found) : null;
        }
    }

    private static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] folders) throws IOException {
        PrintStream answers = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        System.setOut(System.err); // libraries that print must not get between the answers
        ManagedWebAccess.setAccessPolicy(WebAccessPolicy.PROHIBITED);
        FhirValidator validator = validator(folders);
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        answers.println("ready");
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            int tab = line.indexOf('\t');
            answers.println(issues(validator, line.substring(0, tab), line.substring(tab + 1)));
        }
    }

    private static FhirValidator validator(String[] folders) throws IOException {
        FhirContext fhir = FhirContext.forR4();
        PrePopulatedValidationSupport own = new PrePopulatedValidationSupport(fhir);
        Questionnaires forms = new Questionnaires(fhir, new HashMap<>());
        for (String folder : folders) {
            add(own, forms, fhir, Path.of(folder));
        }
        UnknownCodeSystemWarningValidationSupport unknown = new UnknownCodeSystemWarningValidationSupport(fhir);
        unknown.setNonExistentCodeSystemSeverity(IValidationSupport.IssueSeverity.INFORMATION);
        ValidationSupportChain chain = new ValidationSupportChain(
                own,
                forms,
                new DefaultProfileValidationSupport(fhir),
                new SnapshotGeneratingValidationSupport(fhir),
                new CommonCodeSystemsTerminologyService(fhir),
                new InMemoryTerminologyServerValidationSupport(fhir),
                unknown);
        FhirInstanceValidator instances = new FhirInstanceValidator(chain);
        instances.setAnyExtensionsAllowed(false);
        instances.setErrorForUnknownProfiles(true);
        instances.setNoExtensibleWarnings(true);
        instances.setAssumeValidRestReferences(true);
        return fhir.newValidator().registerValidatorModule(instances);
    }

    private static void add(
            PrePopulatedValidationSupport own, Questionnaires forms, FhirContext fhir, Path folder) throws IOException {
        IParser parser = fhir.newJsonParser();
        parser.setParserErrorHandler(new LenientErrorHandler(false));
        try (Stream<Path> files = Files.walk(folder)) {
            List<Path> definitions = files.filter(file -> file.getFileName().toString().endsWith(".json"))
                    .sorted()
                    .toList();
            for (Path file : definitions) {
                String type = JSON.readTree(file.toFile()).path("resourceType").asText();
                switch (type) {
                    case "StructureDefinition" -> own.addStructureDefinition(parser.parseResource(Files.readString(file)));
                    case "CodeSystem" -> own.addCodeSystem(parser.parseResource(Files.readString(file)));
                    case "ValueSet" -> own.addValueSet(parser.parseResource(Files.readString(file)));
                    case "Questionnaire" -> forms.add(parser.parseResource(Questionnaire.class, Files.readString(file)));
                    default -> { } // a package also holds search parameters, examples and its own description
                }
            }
        }
    }

    private static String issues(FhirValidator validator, String profile, String resource) {
        ArrayNode issues = JSON.createArrayNode();
        try {
            ValidationOptions options = new ValidationOptions();
            if (!profile.isEmpty()) {
                options.addProfile(profile);
            }
            for (SingleValidationMessage message : validator.validateWithResult(resource, options).getMessages()) {
                add(issues, message.getSeverity().getCode(), message.getLocationString(), message.getMessage());
            }
        } catch (RuntimeException unreadable) {
            add(issues, "fatal", "", String.valueOf(unreadable.getMessage()));
        }
        try {
            return JSON.writeValueAsString(issues);
        } catch (IOException impossible) {
            throw new UncheckedIOException(impossible);
        }
    }

    private static void add(ArrayNode issues, String severity, String path, String message) {
        issues.addObject().put("severity", severity).put("path", path).put("message", message);
    }
}
