"""Options that no probe feels, by owner, each with the reason. What decides numbers does not belong into `NEVER`."""

from __future__ import annotations

from collections.abc import Mapping

Listed = Mapping[str, Mapping[str, str]]
"""By reason: owners, each with the names of its fields."""

NEVER: Listed = {
    "beside any other kl_estimator than the one that fits it is refused, so that it never decides alone": {
        "algorithm grpo": "kl_in_reward",
        "algorithm nlpo": "kl_in_reward kl_estimator",
        "algorithm ppo": "kl_in_reward",
    },
    "a revision is of a hub, which no test reaches": {
        "ModelOptions": "model_revision",
        "BackboneOptions": "model_revision",
    },
    "it lets code of a hub run, and no model in the tests brings any": {
        "ModelOptions": "trust_remote_code",
        "BackboneOptions": "trust_remote_code",
    },
    "the tiny template reads no variable; tests/unit/test_chat.py hands them to one that does": {
        "ModelOptions": "chat_template_kwargs",
    },
    "it divides logits for memory, and no number follows from the pieces": {
        "TrainOptions": "logits_chunk_mb",
        "engine hf": "logits_chunk_mb",
    },
    "it bounds the processes that grade: seconds, and no score": {
        "RolloutOptions": "reward_workers",
    },
    "an alarm needs four audited steps: tests/unit/train/test_gold_reward.py gives them": {
        "AuditOptions": "window stop",
    },
    "a test machine has one device, the CPU": {
        "engine hf": "device",
    },
    "a name of the hub, which no test reaches": {
        "data jsonl": "dataset_name dataset_config split",
        "data hub": "path config split prompt_column answer_column id_column instruction",
        "source offline": "dataset_name dataset_config split",
        "source returns": "dataset_name dataset_config split",
    },
    "reasoning-gym is an extra that the test environment does not have": {
        "data reasoning_gym": "tasks count seed config instruction",
        "reward reasoning_gym": "tags_required partial",
    },
    "vLLM takes half a minute to start: tests/unit/engines/vllm and tests/e2e hand them over": {
        "engine vllm": (
            "gpu_memory_utilization enforce_eager max_num_seqs enable_prefix_caching "
            "enable_sleep_mode cpu_kvcache_space block_size return_kept_ids min_tokens_to_keep "
            "mask_update_steps critic critic_beta critic_top_k engine_kwargs"
        ),
    },
    "a server takes half a minute to start: tests/unit/engines/server and tests/e2e hand them over": {
        "engine server": (
            "servers urls api_key served_model_name sync_dir timeout_s in_flight_updates retries "
            "start_timeout_s log_dir enforce_eager gpu_memory_utilization tensor_parallel_size "
            "devices enable_sleep_mode cpu_kvcache_space omp_threads critic critic_beta "
            "critic_top_k server_args"
        ),
    },
    "a browser plays it, which is no quick test: tests/integration/test_browser.py": {
        "env miniwob": (
            "observation actions history instructions max_steps max_elements max_text shaping shaping_gamma pages "
            "pictures"
        ),
        "env shop": (
            "observation actions history instructions max_steps max_elements max_text shaping shaping_gamma pictures"
        ),
    },
}
"""Nothing comes of them that a quick test on a CPU could see."""

LATER: Listed = {
    "it needs a game of two agents with an engine each, as tests/integration/test_own_parameters.py plays": {
        "OpponentOptions": "model engine temperature learns learning_rate",
        "RolloutOptions": "opponents",
    },
    "it needs a reward model to be trained, as tests/integration/test_reward_models.py does": {
        "BackboneOptions": (
            "model_name_or_path dtype attn_implementation use_peft lora_r lora_alpha lora_dropout lora_target_modules"
        ),
        "DataOptions": "train test test_share columns neutral_as balance limit seed",
        "InputOptions": "template separator max_length",
        "LossOptions": "margin center_rewards_coefficient weigh positions average",
        "FitOptions": (
            "num_train_epochs max_steps learning_rate lr_scheduler_type warmup_steps weight_decay "
            "max_grad_norm per_device_train_batch_size gradient_accumulation_steps bf16 "
            "gradient_checkpointing logging_steps seed output_dir run_name calibration_rows"
        ),
    },
    "it needs a trained reward model in a folder, as tests/unit/rewards makes them": {
        "reward process_model": "path variables device dtype tokens_per_batch pays aggregation cut_at least_words",
        "reward reward_model": "path variables device dtype tokens_per_batch scale",
        "reward salmon": (
            "path variables device dtype tokens_per_batch principles k negate guards length "
            "length_reasoning length_scale no_stop language_bonus seed"
        ),
        "reward success_model": "path threshold yes no max_length device dtype",
        "reward token_model": "path variables device dtype tokens_per_batch",
        "reward value_rank": "path by gamma alpha device dtype tokens_per_batch",
    },
    "it needs episodes, or rows of answers, in files, as tests/unit/sources plays and writes them": {
        "source asynchronous": "dynamic_sampling max_refills curriculum max_staleness max_inflight_tasks",
        "source offline": "path format shuffle shuffle_window max_bad_rows columns",
        "source online": "dynamic_sampling max_refills curriculum",
        "source rehearsal": "of replay share",
        "source replay": "of capacity turns proposals quantile quantile_of first_success fresh earlier",
        "source restarts": (
            "dynamic_sampling max_refills curriculum max_staleness max_inflight_tasks share "
            "decay_steps max_continuation_length at max_new_turns max_snapshots rollouts"
        ),
        "source returns": "path format shuffle shuffle_window max_bad_rows columns quantiles control drop min_rows",
    },
    "it needs a folder final/critic, or a copy of the weights that lags behind": {
        "engine hf": "mask_update_steps critic critic_beta critic_top_k",
    },
    "it needs a scripted server of chat or of scores, as tests/unit/clients has it": {
        "env openenv": "base_url client reset action_field action observation",
        "reward behaviour_judge": (
            "url model api_key_variable temperature max_tokens timeout_s retries pause_s "
            "patience_s concurrency requests_per_minute cache extra_body prompt_price "
            "completion_price share"
        ),
        "reward judge": (
            "url model api_key_variable temperature max_tokens timeout_s retries pause_s "
            "patience_s concurrency requests_per_minute cache extra_body prompt_price "
            "completion_price form rubric rubric_column reference lowest highest correct_from "
            "explain structured reads"
        ),
        "reward remote": "url api_key_variable timeout_s retries pause_s patience_s give_up concurrency",
        "simulator chat_model": (
            "url model api_key_variable temperature max_tokens timeout_s retries pause_s "
            "patience_s concurrency requests_per_minute cache extra_body prompt_price "
            "completion_price persona task_column"
        ),
    },
    "it needs programs that run inside the walls of the sandbox, as tests/unit/sandbox runs them": {
        "env swe": (
            "repos environment packages timeout_s memory_mb min_level level logs container "
            "container_python credit max_steps command_timeout_s max_calls max_characters"
        ),
        "reward code": "credit timeout_s memory_mb min_level level packages",
        "reward swe_patch": "repos max_characters tests",
        "reward swe_similarity": "max_characters",
        "reward swe_tests": (
            "repos environment packages timeout_s memory_mb min_level level logs container "
            "container_python credit form malformed"
        ),
        "data swe": "path split",
        "agent command": "command timeout_s crash env inherit info cwd max_open",
        "tool mcp": "command url env only timeout_s",
        "tool python": "timeout_s memory_mb min_level",
        "tool search_files": "folder pattern max_results",
    },
    "it needs a function or an environment in another library's form, as tests/unit/scoring has them": {
        "env gymnasium": "make_env kwargs observation action",
        "env textworld": "folder commands",
        "env trl": "factory max_calls max_characters",
        "env verifiers": "environment kwargs scored",
        "reward openrlhf": "function correct_at chat",
        "reward trl": "function kwargs correct_at",
        "reward verifiers": "rubric correct_at",
        "reward verl": "function correct_at reward_kwargs data_source",
        "data textworld": "folder",
    },
    "it needs rows in the files of this dataset, as tests/unit/data writes them": {
        "data by_pass_rate": "missing",
        "data humaneval": "split path",
        "data livecodebench": "path split since until",
        "data mbpp": "split path challenge",
        "data outcomes": "path",
        "data perturbed": "of templates",
        "data swe_bench": "subset path",
    },
    "it needs a dialogue, sub-goals or tools around another environment, as tests/unit/envs has them": {
        "env dialogue": "simulators opens max_turns penalty correct_from",
        "env follow": "env slack",
        "env perturbation": "reward request template allowed penalty player",
        "env subgoals": "env goals goals_column alpha gamma hint_share",
        "env tools": "tools max_calls max_characters",
        "env wordle": "rule",
        "simulator car_buyer": "temper",
    },
    "it needs outcomes, or answers, in which it decides; the probe has none": {
        "algorithm oreal": "scale_right",
        "algorithm webrl": "gamma",
        "reward heron": "calibration",
        "search weighted_majority": "how",
        "curriculum alp_bins": "records",
        "curriculum alp_gmm": "records history",
        "curriculum mbtl": "records",
    },
}
"""Their owners have tests of their own; a probe is still to be written."""
