"""The mapping files: what they say, and what is said when one is wrong."""

from __future__ import annotations

import orjson
import pytest

from service.domain.course import Phase
from service.domain.facts import Code
from service.domain.forms import FHIR_BASE, CourseField, FormKind
from service.domain.mapping_files import parse
from service.domain.mappings import MappingError, Mappings

PHQ_9 = "instruments/phq-9.toml"
SITE = "sites/clinic.toml"


def with_change(files: dict[str, bytes], path: str, old: str, new: str) -> dict[str, bytes]:
    """Return the files with one text replaced once; the text must be there."""
    assert old.encode() in files[path]
    return files | {path: files[path].replace(old.encode(), new.encode(), 1)}


def problem(files: dict[str, bytes], site: str | None = None) -> str:
    """Return what is wrong with the files."""
    with pytest.raises(MappingError) as raised:
        parse(files, site)
    return str(raised.value)


def site_problem(files: dict[str, bytes], text: str) -> str:
    """Return what is wrong with a site's file of this text."""
    return problem(files | {SITE: text.encode()}, "clinic")


def test_the_standard_mappings_hold_the_adult_protocol_and_its_instruments(mappings: Mappings) -> None:
    """What the service needs at the least."""
    assert {"adult-standard", "adolescent", "brief", "who-group", "maintenance"} == set(mappings.protocols)
    assert {"phq-9", "gad-7", "audit"} <= set(mappings.instruments)
    assert {"grief", "role-dispute", "role-transition", "communication-patterns"} == set(mappings.focus_areas)


def test_the_three_forms_together_document_every_course_field(mappings: Mappings) -> None:
    """No field that a course reads is without a question."""
    kinds = {form.kind for form in mappings.forms.values()}
    fields = {field for form in mappings.forms.values() for field in form.fields.values()}
    assert set(FormKind) == kinds
    assert set(CourseField) == fields


def test_every_code_of_ours_has_a_display(mappings: Mappings) -> None:
    """Plans show words, never bare codes."""
    assert "Middle phase" == mappings.displays[Code(f"{FHIR_BASE}/CodeSystem/phase", Phase.MIDDLE)]
    assert all(mappings.displays.values())


def test_an_item_without_coded_top_answer_states_its_maximum(mappings: Mappings) -> None:
    """AUDIT items 9 and 10 score up to 4, and only "no" has a code."""
    assert (4,) * 10 == mappings.instruments["audit"].item_maximum


def test_the_digest_follows_what_is_read_and_nothing_else(mapping_files: dict[str, bytes]) -> None:
    """A document or another site's file changes no revision; a rule's sentence does."""
    digest = parse(mapping_files).digest
    assert digest == parse(mapping_files | {"README.md": b"other", "sites/other.toml": b""}).digest
    assert (
        digest
        != parse(with_change(mapping_files, "rules/safety.toml", "contact the patient", "call the patient")).digest
    )


def test_the_example_site_adds_its_codes_instrument_and_form(mapping_files: dict[str, bytes]) -> None:
    """The file that sites copy is right as it stands."""
    site = parse(mapping_files, "example")
    assert frozenset({"ipt"}) == site.codes_by_use[Code("https://clinic.example/fhir/visit-type", "IPT")]
    assert "phq-9" == site.instrument_by_questionnaire["https://clinic.example/fhir/Questionnaire/mood-9"]
    assert 8 == site.site_link_ids["https://clinic.example/fhir/Questionnaire/mood-9"]["mood.self-harm"]
    assert Code("http://loinc.org", "LA6569-3") == site.answer_texts["several days"]
    assert {} == parse(mapping_files).answer_texts
    form = site.forms["https://clinic.example/fhir/Questionnaire/ipt-intake"]
    assert CourseField.PRIMARY_FOCUS is form.fields["intake.focus"]
    assert "grief" == form.values[Code("https://clinic.example/fhir/focus", "G")]
    assert set(parse(mapping_files).forms) < set(site.forms)


def test_a_wrong_loinc_check_digit_is_named_with_its_item(mapping_files: dict[str, bytes]) -> None:
    """File, key and problem."""
    files = with_change(mapping_files, PHQ_9, "44254-1", "4425-0")
    assert f'mappings/{PHQ_9}, items[3].loinc: "4425-0" is not a LOINC code (check digit).' == problem(files)


def test_a_wrong_answer_code_is_named(mapping_files: dict[str, bytes]) -> None:
    """Answer codes have check digits too."""
    files = with_change(mapping_files, PHQ_9, "http://loinc.org|LA6569-3", "http://loinc.org|LA6569-4")
    expected = f'mappings/{PHQ_9}, answers.http://loinc.org|LA6569-4: "LA6569-4" is not a LOINC code (check digit).'
    assert expected == problem(files)


def test_a_wrong_snomed_ct_check_digit_is_named_with_its_place(mapping_files: dict[str, bytes]) -> None:
    """File, key and problem."""
    files = with_change(mapping_files, "encounters.toml", "443730003", "443730004")
    assert 'mappings/encounters.toml, ipt[0]: "443730004" is not a SNOMED CT code (check digit).' == problem(files)


@pytest.mark.parametrize(
    ("path", "where"),
    [
        (PHQ_9, PHQ_9),
        ("protocols/adult-standard.toml", "protocols/adult-standard.toml"),
        ("rules/reviews.toml", "rules/reviews.toml, review.firm"),
        ("focus-areas.toml", "focus-areas.toml, grief"),
    ],
)
def test_a_source_that_is_not_described_is_named(mapping_files: dict[str, bytes], path: str, where: str) -> None:
    """Every number rests on a source that a reader can look up."""
    known = {
        PHQ_9: "kroenke-2001",
        "protocols/adult-standard.toml": "ipt-uk-stages",
        "rules/reviews.toml": "icsi-depression-2016",
        "focus-areas.toml": "ipt-key-strategies",
    }[path]
    files = with_change(mapping_files, path, f'"{known}"', '"hearsay"')
    assert f'mappings/{where}: "hearsay" is not in mappings/sources.toml.' == problem(files)


def test_an_unknown_key_is_named(mapping_files: dict[str, bytes]) -> None:
    """A slip of the pen is no silent default."""
    files = with_change(mapping_files, PHQ_9, "maximum = 27", "maximum = 27\nmaximal = 27")
    assert f"mappings/{PHQ_9}, maximal: Extra inputs are not permitted." == problem(files)


def test_a_missing_key_is_named(mapping_files: dict[str, bytes]) -> None:
    """As is what is left out."""
    files = with_change(mapping_files, PHQ_9, 'subject = "depression"\n', "")
    assert f"mappings/{PHQ_9}, subject: Field required." == problem(files)


def test_all_problems_of_a_file_are_named_at_once(mapping_files: dict[str, bytes]) -> None:
    """One line for each."""
    files = with_change(mapping_files, PHQ_9, "44254-1", "4425-0")
    assert 2 == len(problem(with_change(files, PHQ_9, "44261-6", "44261-7")).splitlines())


def test_items_that_do_not_add_up_to_the_maximum_are_named(mapping_files: dict[str, bytes]) -> None:
    """A wrong score or a lost item shows."""
    files = with_change(mapping_files, PHQ_9, "maximum = 27", "maximum = 24")
    assert f"mappings/{PHQ_9}: maximum is 24, and the highest scores of the items add up to 27." == problem(files)


def test_bands_that_do_not_rise_are_named(mapping_files: dict[str, bytes]) -> None:
    """A total falls in one band only."""
    files = with_change(mapping_files, PHQ_9, "{ start = 10,", "{ start = 4,")
    assert f"mappings/{PHQ_9}: bands must start at 0 and rise." == problem(files)


def test_a_default_outside_the_agreed_range_is_named(mapping_files: dict[str, bytes]) -> None:
    """Sixteen sessions are not within twelve to fourteen."""
    path = "protocols/adult-standard.toml"
    files = with_change(mapping_files, path, "maximum = { value = 16", "maximum = { value = 14")
    assert f"mappings/{path}, sessions: default must lie between minimum and maximum." == problem(files)


def test_a_file_that_is_not_toml_is_named_with_the_line(mapping_files: dict[str, bytes]) -> None:
    """Where the parser stopped."""
    files = mapping_files | {"rules/reviews.toml": b"[[rules]]\nid = \n"}
    assert "mappings/rules/reviews.toml: Invalid value (at line 2, column 6)." == problem(files)


def test_a_file_that_is_not_utf_8_is_named(mapping_files: dict[str, bytes]) -> None:
    """As is a wrong encoding."""
    assert problem(mapping_files | {"rules/reviews.toml": b"\xff"}).startswith(
        "mappings/rules/reviews.toml: 'utf-8' codec can't decode"
    )


def test_a_missing_file_is_named(mapping_files: dict[str, bytes]) -> None:
    """A folder that is not whole is no set of mappings."""
    files = {path: content for path, content in mapping_files.items() if path != "sources.toml"}
    assert "mappings/sources.toml: no such file." == problem(files)


def test_a_folder_without_forms_is_named(mapping_files: dict[str, bytes]) -> None:
    """As is an empty room of it."""
    files = {path: content for path, content in mapping_files.items() if not path.startswith("forms/")}
    assert "mappings/forms/: no file here; take the folder `mappings` of the release whole." == problem(files)


def test_an_instrument_is_named_as_its_file(mapping_files: dict[str, bytes]) -> None:
    """So that a message that names the instrument names the file."""
    files = with_change(mapping_files, PHQ_9, 'id = "phq-9"', 'id = "phq9"')
    assert f'mappings/{PHQ_9}, id: "phq9" must be the name of the file, "phq-9".' == problem(files)


def test_a_rule_that_is_there_twice_is_named(mapping_files: dict[str, bytes]) -> None:
    """The later one would hide the first."""
    files = with_change(mapping_files, "rules/reviews.toml", '"review.firm"', '"review.soft"')
    assert 'mappings/rules/reviews.toml: "review.soft" is there twice.' == problem(files)


def test_every_code_system_counts_its_codes(mapping_files: dict[str, bytes]) -> None:
    """A FHIR server refuses one that says another number, and every plan that names its codes."""
    systems = {path: orjson.loads(text) for path, text in mapping_files.items() if "/CodeSystem-" in path}
    assert len(systems) > 1
    assert {path: len(each["concept"]) for path, each in systems.items()} == {
        path: each["count"] for path, each in systems.items()
    }


def test_a_code_system_that_lacks_a_rule_is_named(mapping_files: dict[str, bytes]) -> None:
    """A plan names no code that its CodeSystem doesn't define."""
    files = with_change(mapping_files, "rules/reviews.toml", '"review.firm"', '"review.late"')
    expected = (
        "mappings/terminology/CodeSystem-finding-rule.json, concept: differs from mappings/rules/ in"
        " review.firm, review.late."
    )
    assert expected == problem(files)


def test_a_code_system_that_lacks_a_course_field_is_named(mapping_files: dict[str, bytes]) -> None:
    """What the service reads and what the forms can say is the same."""
    path = "terminology/CodeSystem-course-field.json"
    files = with_change(mapping_files, path, '"code": "gain"', '"code": "win"')
    files = with_change(files, "forms/ending.json", f'"system": "{FHIR_BASE}/CodeSystem/course-field"', '"system": "x"')
    assert f"mappings/{path}, concept: differs from the service's course fields in gain, win." == problem(files)


def test_a_protocol_task_that_is_no_course_field_is_named(mapping_files: dict[str, bytes]) -> None:
    """No form could ever document it."""
    path = "protocols/adult-standard.toml"
    files = with_change(mapping_files, path, '"diagnosis-documented"', '"diagnosis"')
    assert f'mappings/{path}, initial.tasks: "diagnosis" is not a course field.' == problem(files)


@pytest.mark.parametrize(
    ("path", "old", "new", "expected"),
    [
        (
            "courses.toml",
            '"adult-standard"',
            '"adult"',
            'mappings/courses.toml, protocol: "adult" is not a protocol.',
        ),
        (
            PHQ_9,
            "maximum = 27",
            'maximum = 27\npart_of = "phq-10"',
            f'mappings/{PHQ_9}, part_of: "phq-10" is not another instrument.',
        ),
        (
            "protocols/adult-standard.toml",
            "[initial]",
            '[[exclusions]]\ncode = "flu"\nsource = "design"\n\n[initial]',
            'mappings/protocols/adult-standard.toml, exclusions: "flu" is not a code of exclusion.',
        ),
        (
            "focus-areas.toml",
            'strategies = ["expression-of-affect", "clarification-of-expectations", "explore-feelings", ',
            'strategies = ["hypnosis", ',
            'mappings/focus-areas.toml, grief.strategies: "hypnosis" is not a code of technique or phase-task.',
        ),
    ],
)
def test_what_one_file_names_and_no_other_holds_is_named(
    mapping_files: dict[str, bytes], path: str, old: str, new: str, expected: str
) -> None:
    """File, key and name."""
    assert expected == problem(with_change(mapping_files, path, old, new))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("maximum = 27", 'maximum = 27\nscoring = "highest"', "maximum is 27, and the highest score of an item 3"),
        (
            "maximum = 27",
            'maximum = 27\ncaseness_by_sex.male = { value = 4, unit = "points", source = "design" }',
            "caseness or caseness_by_sex, not both",
        ),
        (
            'loinc = "44250-9"',
            'loinc = "44250-9"\nasked_if = 1',
            "items[0].asked_if must be the number of an earlier item",
        ),
    ],
)
def test_an_instrument_that_contradicts_itself_is_named(
    mapping_files: dict[str, bytes], old: str, new: str, expected: str
) -> None:
    """File and problem."""
    assert f"mappings/{PHQ_9}: {expected}." == problem(with_change(mapping_files, PHQ_9, old, new))


def test_an_alias_names_the_item_or_the_total_that_it_stands_for(mapping_files: dict[str, bytes]) -> None:
    """Known mistakes of published examples are read, and only read."""
    files = with_change(mapping_files, PHQ_9, 'loinc = "44255-8"', 'loinc = "44255-8"\naliases = ["68517-2"]')
    files = with_change(files, PHQ_9, "maximum = 27", 'maximum = 27\ntotal_aliases = ["76504-0"]')
    phq_9 = parse(files).instruments["phq-9"]
    assert 1 == phq_9.item_codes["68517-2"] == phq_9.link_ids["44255-8"]
    assert {"44261-6", "76504-0"} == phq_9.total_codes


def test_a_rule_that_another_file_holds_too_is_named(mapping_files: dict[str, bytes]) -> None:
    """Each rule has one place."""
    files = with_change(mapping_files, "rules/safety.toml", '"safety.item-unanswered"', '"review.firm"')
    assert 'mappings/rules/safety.toml: "review.firm" is there twice.' == problem(files)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ('protocol = "adult"\nage_from = 12', '.protocol: "adult" is not a protocol.'),
        ('protocol = "adult-standard"', ": name codes, age_from or age_below."),
        ('protocol = "adult-standard"\nage_from = 18\nage_below = 18', ": age_from must be less than age_below."),
        (
            'protocol = "adult-standard"\ncodes = ["clinic"]',
            '.codes[0]: "clinic" is not a code written as "system|code".',
        ),
    ],
)
def test_a_site_protocol_that_fits_nobody_is_named(mapping_files: dict[str, bytes], table: str, expected: str) -> None:
    """File, place and problem."""
    assert f"mappings/{SITE}, protocols[0]{expected}" == site_problem(mapping_files, f"[[protocols]]\n{table}\n")


def test_a_form_item_with_an_unknown_field_is_named(mapping_files: dict[str, bytes]) -> None:
    """File, item and code."""
    files = with_change(mapping_files, "forms/ending.json", '"code": "gain",', '"code": "win",')
    assert 'mappings/forms/ending.json: item gain: "win" is not a course field.' == problem(files)


def test_a_form_answer_that_no_code_system_defines_is_named(mapping_files: dict[str, bytes]) -> None:
    """File, item and answer."""
    files = with_change(mapping_files, "forms/ending.json", '"code": "maintenance"', '"code": "later"')
    assert 'mappings/forms/ending.json: item decision: answer "later" is in none of our CodeSystems.' == problem(files)


def test_a_form_of_no_known_kind_is_named(mapping_files: dict[str, bytes]) -> None:
    """Which of the three it is has to be said."""
    files = with_change(mapping_files, "forms/ending.json", '"code": "ending"', '"code": "closing"')
    expected = (
        f"mappings/forms/ending.json: a form needs a url and one code of {FHIR_BASE}/CodeSystem/form-kind:"
        " assessment, session, ending."
    )
    assert expected == problem(files)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"{", "mappings/forms/ending.json: Expecting property name"),
        (b"[]", "mappings/forms/ending.json: not a FHIR Questionnaire."),
        (b'{"code": [{}]}', "mappings/forms/ending.json: an item, code or answer lacks 'code'."),
    ],
)
def test_a_form_that_is_no_questionnaire_is_named(
    mapping_files: dict[str, bytes], content: bytes, expected: str
) -> None:
    """Broken JSON, another shape, an element left out."""
    assert problem(mapping_files | {"forms/ending.json": content}).startswith(expected)


def test_a_site_without_file_is_named(mapping_files: dict[str, bytes]) -> None:
    """The setting names a file that is not there."""
    assert "mappings/sites/nowhere.toml: no such file." == problem(mapping_files, "nowhere")


def test_a_site_with_an_unknown_instrument_is_named(mapping_files: dict[str, bytes]) -> None:
    """Only instruments that the mappings describe can be scored."""
    expected = f'mappings/{SITE}, instruments: "phq-10" is not an instrument of mappings/instruments/.'
    assert expected == site_problem(mapping_files, '[instruments.phq-10]\nquestionnaires = ["u"]\n')


def test_a_site_link_id_for_an_item_that_is_not_there_is_named(mapping_files: dict[str, bytes]) -> None:
    """A PHQ-9 has nine items."""
    expected = f"mappings/{SITE}, instruments.phq-9.link_ids.x: items of phq-9 are numbered from 1 to 9."
    assert expected == site_problem(mapping_files, '[instruments.phq-9]\nquestionnaires = ["u"]\nlink_ids.x = 10\n')


def test_a_site_form_with_an_unknown_field_is_named(mapping_files: dict[str, bytes]) -> None:
    """File, key and what would be right."""
    text = '[[forms]]\nquestionnaire = "u"\nkind = "session"\n[forms.items]\n"a.b" = "mood"\n'
    assert site_problem(mapping_files, text).startswith(
        f"mappings/{SITE}, forms[0].items.a.b: Input should be 'diagnosis"
    )


def test_a_site_answer_to_a_code_that_is_not_ours_is_named(mapping_files: dict[str, bytes]) -> None:
    """File, key and code."""
    text = (
        '[[forms]]\nquestionnaire = "u"\nkind = "session"\n[forms.items]\na = "gain"\n[forms.answers]\n"s|c" = "joy"\n'
    )
    expected = f'mappings/{SITE}, forms[0].answers: "joy" is in none of our CodeSystems.'
    assert expected == site_problem(mapping_files, text)


def test_a_site_answer_without_system_is_named(mapping_files: dict[str, bytes]) -> None:
    """A bare code could mean anything."""
    text = '[[forms]]\nquestionnaire = "u"\nkind = "session"\n[forms.items]\na = "gain"\n[forms.answers]\nc = "grief"\n'
    expected = f'mappings/{SITE}, forms[0].answers: "c" is not a code written as "system|code".'
    assert expected == site_problem(mapping_files, text)


def test_a_questionnaire_cannot_be_form_and_instrument(mapping_files: dict[str, bytes]) -> None:
    """It would be read as one and scored as the other."""
    url = "http://loinc.org/q/44249-1"
    text = f'[[forms]]\nquestionnaire = "{url}"\nkind = "session"\n[forms.items]\na = "gain"\n'
    expected = f"mappings/{SITE}, forms[0].questionnaire: is an instrument's too; name it once."
    assert expected == site_problem(mapping_files, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"Often" = "http://loinc.org|LA6115-5"', '"http://loinc.org|LA6115-5" is no answer of an instrument.'),
        (
            '"Not at all" = "http://loinc.org|LA6568-5"\n" not  AT all" = "http://loinc.org|LA6569-3"',
            '" not  AT all" is empty, or there twice; case and spaces make no difference.',
        ),
        ('" " = "http://loinc.org|LA6568-5"', '" " is empty, or there twice; case and spaces make no difference.'),
    ],
)
def test_words_that_stand_for_no_answer_or_for_two_are_named(
    mapping_files: dict[str, bytes], text: str, expected: str
) -> None:
    """A score by a wrong word would be silent."""
    assert f"mappings/{SITE}, answer_texts: {expected}" == site_problem(mapping_files, f"[answer_texts]\n{text}\n")
